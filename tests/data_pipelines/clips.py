"""Small videos that tests encode themselves; every frame carries its number in black and white."""

import io
import tempfile
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np

BITS = 8
QUIET = {"libx265": {"x265-params": "log-level=none"}}


def numbered(n: int, height: int = 48, width: int = 64, first: int = 0) -> np.ndarray:
  """uint8 [n, height, width, 3]: the number as columns of black and white, over moving texture."""
  rng = np.random.default_rng(0)
  noise = rng.integers(0, 40, (height, width + n, 3))
  frames = np.stack([noise[:, t:t + width] for t in range(n)])
  bits = (np.arange(first, first + n)[:, None] >> np.arange(BITS)) & 1  # [n, BITS]
  columns = np.arange(width) * BITS // width
  return (frames + 200 * bits[:, None, columns, None]).astype(np.uint8)


def numbers(frames: np.ndarray) -> list[int]:
  """The numbers in `numbered` frames, after encoding, decoding and resizing."""
  columns = np.arange(frames.shape[2]) * BITS // frames.shape[2]
  level = np.stack([frames[:, :, columns == b].mean((1, 2, 3)) for b in range(BITS)], 1)
  return ((level > 120) @ (1 << np.arange(BITS))).tolist()


def encode(frames: np.ndarray, container: str = "mp4", codec: str = "libx264",
           pix_fmt: str = "yuv420p", *, fps: int = 25, pts: Sequence[int] | None = None,
           time_base: Fraction | None = None, rotation: float = 0, hflip: bool = False,
           options: dict[str, str] | None = None, mux: dict[str, str] | None = None,
           sound: bool = False, metadata: dict[str, str] | None = None) -> bytes:
  """A file in memory. `pts` in units of `time_base`; the default is one frame each 1/fps."""
  options = {"threads": "1", **QUIET.get(codec, {}), **(options or {})}
  # Moving the index to the front ("faststart") needs a file that can be read again.
  with tempfile.NamedTemporaryFile() as target:
    write(target.name, frames, container, codec, pix_fmt, fps, pts, time_base, rotation, hflip,
          options, mux or {}, sound, metadata or {})
    return target.read()


def write(path, frames, container, codec, pix_fmt, fps, pts, time_base, rotation, hflip, options,
          mux, sound, metadata) -> None:
  with av.open(path, "w", format=container, options=mux) as file:
    file.metadata.update(metadata)
    stream = file.add_stream(codec, rate=fps, options=options)
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = pix_fmt
    if rotation or hflip:
      stream.set_display_rotation(rotation, hflip=hflip)
    time_base = time_base or Fraction(1, fps)
    stream.time_base = stream.codec_context.time_base = time_base
    audio = add_sound(file) if sound else None
    for t, array in enumerate(frames):
      frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
      frame.pts, frame.time_base = t if pts is None else pts[t], time_base
      file.mux(stream.encode(frame))
    file.mux(stream.encode())
    if audio:
      play_sound(file, audio)


def add_sound(file: av.container.OutputContainer) -> av.AudioStream:
  return file.add_stream("aac" if "mp4" in file.format.name else "mp3", rate=44100,
                         layout="mono")


def play_sound(file: av.container.OutputContainer, stream: av.AudioStream) -> None:
  for k in range(20):
    tone = np.sin(np.arange(1152) / 9)[None].astype(np.float32)
    frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
    frame.sample_rate, frame.pts = 44100, k * 1152
    file.mux(stream.encode(frame))
  file.mux(stream.encode())


def sound_only() -> bytes:
  buffer = io.BytesIO()
  with av.open(buffer, "w", format="mp4") as file:
    play_sound(file, add_sound(file))
  return buffer.getvalue()


def zeroed(data: bytes, places: Sequence[int]) -> bytes:
  """The file with the contents of these packets, counted in decoding order, set to zero."""
  with av.open(io.BytesIO(data)) as file:
    contents = [bytes(p) for p in file.demux(video=0) if p.size]
  out = bytearray(data)
  for content in (contents[place] for place in places):
    assert data.count(content) == 1
    start = data.index(content)
    out[start:start + len(content)] = bytes(len(content))
  return bytes(out)


def decode_all(source: str | bytes) -> list[tuple[int | None, np.ndarray]]:
  """(pts, RGB as stored) of all that PyAV decodes from the beginning, packet by packet."""
  found = []
  with av.open(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
    stream = file.streams.video[0]
    stream.thread_type = "NONE"
    for packet in file.demux(stream):
      try:
        found += [(f.pts, f.to_ndarray(format="rgb24")) for f in packet.decode()]
      except av.FFmpegError:
        continue
  return found
