"""A file's packets: when each frame is shown, and exact decoding from a key frame on."""

import array
import dataclasses
import itertools
from collections.abc import Iterator

import av
import numpy as np

from data_pipelines.errors import VideoError

# Containers that store a time and a key-frame mark for every packet and can seek by them.
SEEKABLE = ("mov", "matroska")
# VP8 stores pictures that are never shown as packets of their own.
HIDDEN_PICTURES = {"vp8"}
# Frames that no other frame refers to can be left undecoded without changing the others.
SKIPPABLE = {"h264", "mpeg4", "mpeg2video"}


class Unreliable(Exception):
  """Seeking met something that a decode from the start might show differently."""


@dataclasses.dataclass(frozen=True)
class PacketIndex:
  """Times (in units of the stream's time base) and places of a video stream's packets.

  A packet's place is its position in decoding order; a frame's number is its position among the
  frames shown. Packets that an edit list hides have a place but no number.

  Attributes:
    shown_pts: int64 [n_frames], increasing.
    shown_place: int64 [n_frames].
    key_pts, key_place: int64 [n_keys], both increasing.
    key_dts: decoding time of each key frame; None where the file doesn't tell.
    all_pts, all_place: int64 [n_packets], by increasing pts: of every packet.
  """

  shown_pts: np.ndarray
  shown_place: np.ndarray
  key_pts: np.ndarray
  key_place: np.ndarray
  key_dts: list[int | None]
  all_pts: np.ndarray
  all_place: np.ndarray

  def place(self, pts: int | None, default: int) -> int:
    """Of the packet with this time."""
    i = _find(self.all_pts, pts)
    return default if i < 0 else int(self.all_place[i])

  def number(self, pts: int | None) -> int:
    """Of the frame shown at this time; -1 where there is none."""
    return _find(self.shown_pts, pts)

  def keys_before(self, numbers: np.ndarray) -> np.ndarray:
    """For each frame number, which key frame (index into `key_*`) to start at; -1 for none.

    The key frame must come before the frame both in decoding and in presentation order: frames
    that are decoded after it but shown before it may need earlier ones (an open GOP).
    """
    by_pts = np.searchsorted(self.key_pts, self.shown_pts[numbers], side="right")
    by_place = np.searchsorted(self.key_place, self.shown_place[numbers], side="right")
    return np.minimum(by_pts, by_place) - 1


def read_index(container: av.container.InputContainer, stream: av.VideoStream, name: str,
               max_frames: int) -> PacketIndex | None:
  """Reads all packets of a stream that is at its beginning, without decoding.

  Returns:
    None where seeking can't be trusted: another container, missing or repeated times, no key
    frames. Such a video has to be decoded to know its frames.

  Raises:
    VideoError: more than `max_frames` packets; says that `name` is to blame.
  """
  family = container.format.name.split(",")[0]
  if family not in SEEKABLE or stream.codec_context.codec.canonical_name in HIDDEN_PICTURES:
    return None
  # Arrays, not lists of objects: a long video has hundreds of thousands of packets.
  pts, hidden, keys = array.array("q"), array.array("b"), []
  try:
    for packet in container.demux(stream):
      if packet.size:
        if packet.pts is None:
          return None
        if packet.is_keyframe:
          keys.append((len(pts), packet.dts))
        pts.append(packet.pts)
        hidden.append(packet.is_discard)
      if len(pts) > max_frames:
        raise VideoError(name, f"more than {max_frames} frames")
  except av.FFmpegError:
    return None  # damaged: what a full decode gives is then the truth
  return _index(np.array(pts, np.int64), np.array(hidden, bool), keys)


def _index(pts: np.ndarray, hidden: np.ndarray,
           keys: list[tuple[int, int | None]]) -> PacketIndex | None:
  key_place = np.array([place for place, _ in keys], np.int64)
  order = np.argsort(pts, kind="stable")
  shown = order[~hidden[order]]
  if (not len(shown) or not len(keys) or np.any(np.diff(pts[order]) == 0)
      or np.any(np.diff(pts[key_place]) <= 0)):
    return None
  return PacketIndex(
      shown_pts=pts[shown], shown_place=shown,
      key_pts=pts[key_place], key_place=key_place, key_dts=[dts for _, dts in keys],
      all_pts=pts[order], all_place=order)


def _find(times: np.ndarray, pts: int | None) -> int:
  """Where in increasing times; -1 for nowhere."""
  i = len(times) if pts is None else int(np.searchsorted(times, pts))
  return i if i < len(times) and times[i] == pts else -1


class Run:
  """Decoding from one key frame on, leaving out what is neither wanted nor needed.

  Attributes:
    frames: the frames, by presentation time; raises `Unreliable` at the first sign of damage.
    place: of the next packet to be read.
    wanted_pts: frames that must not be left out; may be changed while their packets are ahead.
  """

  def __init__(self, container: av.container.InputContainer, stream: av.VideoStream,
               index: PacketIndex, key: int, wanted_pts: set[int]):
    self.place = int(index.key_place[key])
    self.wanted_pts = wanted_pts
    self.frames = self._decode(container, stream, index, key)

  def _decode(self, container, stream, index, key) -> Iterator[av.VideoFrame]:
    context = stream.codec_context
    skips = context.codec.canonical_name in SKIPPABLE
    try:
      for packet in _packets_from(container, stream, index, key):
        if packet.size:
          self.place = index.place(packet.pts, self.place) + 1
        if skips:
          needed = not packet.size or packet.pts in self.wanted_pts
          context.skip_frame = "DEFAULT" if needed else "NONREF"
        for frame in packet.decode():
          if frame.is_corrupt:
            raise Unreliable  # mended with what came before, which is missing here
          yield frame
    except av.FFmpegError as e:
      raise Unreliable from e


def _packets_from(container, stream, index: PacketIndex, key: int) -> Iterator[av.Packet]:
  """Packets from a key frame, or an earlier place, on."""
  if key < 0:
    raise Unreliable  # decodes only because of how the decoder starts, if at all
  # Containers look for the key frame by presentation time; where one goes by decoding time it may
  # land on a later one.
  for time in (int(index.key_pts[key]), index.key_dts[key]):
    if time is not None:
      container.seek(time, stream=stream)
      packets = container.demux(stream)
      first = next(packets)
      if index.place(first.pts, len(index.all_pts)) <= index.key_place[key]:
        return itertools.chain([first], packets)
  raise Unreliable
