"""Small clips of a textured square that moves over textured ground, with the truth."""

import pathlib

import numpy as np

from data_pipelines.encode import write_mp4
from tests.data_pipelines.test_pictures import encoded

SIZE, SIDE, STEP = (64, 112), 32, 8  # pixels; STEP a frame, to the right
IDS = (1, 5)  # of the square's upper and lower half


def scene(length: int, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
  """Frames uint8 [T, H, W, 3] and label maps uint8 [T, H, W]; T <= 8.

  Ground and halves are random blocks, each in shades of its own, and lie on whole cells of 8.
  """
  rng = np.random.default_rng(5)
  blocks = rng.integers(0, 128, (2, 16, 32, 3), np.uint8).repeat(4, 1).repeat(4, 2)
  tints = {0: (0, 0, 127), IDS[0]: (127, 0, 0), IDS[1]: (0, 127, 0)}
  frames = np.stack([blocks[0, :size[0], :size[1]]] * length)
  labels = np.zeros(frames.shape[:3], np.uint8)
  for t in range(length):
    x, y = 16 + STEP * t, 16
    frames[t, y:y + SIDE, x:x + SIDE] = blocks[1, :SIDE, :SIDE]
    labels[t, y:y + SIDE // 2, x:x + SIDE] = IDS[0]
    labels[t, y + SIDE // 2:y + SIDE, x:x + SIDE] = IDS[1]
  for k, tint in tints.items():
    frames[labels == k] += np.uint8(tint)
  return frames, labels


def write_video(path: pathlib.Path, frames: np.ndarray, fps: float = 12.5) -> str:
  write_mp4(path, frames, fps, crf=12)
  return str(path)


def write_pictures(folder: pathlib.Path, frames: np.ndarray) -> str:
  folder.mkdir()
  for t, frame in enumerate(frames):
    (folder / f"{t:05d}.png").write_bytes(encoded(frame))
  return str(folder)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
  return np.sum(a & b) / np.sum(a | b)
