"""Videos that make trouble."""

import pathlib

from data_pipelines.encode import encode_bytes
from tests.data_pipelines import clips


def write_bad(folder: pathlib.Path) -> dict[str, str]:
  """Writes files that are no videos; name -> a word of the reason that should be told."""
  contents = {"text.mp4": (b"This is a text, not a video.\n" * 40, "not a video"),
              "empty.mp4": (b"", "empty"),
              "sound.mp4": (clips.sound_only(), "no video stream")}
  for name, (content, _) in contents.items():
    (folder / name).write_bytes(content)
  return {name: word for name, (_, word) in contents.items()}


def write_odd(folder: pathlib.Path) -> list[str]:
  """Writes videos of one frame and of a height of one pixel; returns their names."""
  (folder / "frame.mp4").write_bytes(encode_bytes(clips.numbered(1), 8))
  line = clips.encode(clips.numbered(24, height=1), "matroska", "ffv1", "bgr0", fps=8)
  (folder / "line.mkv").write_bytes(line)
  return ["frame.mp4", "line.mkv"]
