"""Clips of a patterned square that moves over a patterned ground, and a record of each."""

import dataclasses

import numpy as np

from vssl_jax.evaluators import dense


@dataclasses.dataclass(frozen=True)
class Clip:
  id: str
  frames: tuple
  truth: dict


def blocks(rng, h, w, cell, low=0, high=256):
  coarse = rng.integers(low, high, (-(-h // cell), -(-w // cell), 3))
  return coarse.repeat(cell, 0).repeat(cell, 1)[:h, :w].astype(np.uint8)


def clip(name, seed=0, length=8, size=(120, 160), side=32, step=(3, 5), grow=1.0):
  """A reddish square on bluish ground; `grow` multiplies its side from frame to frame."""
  rng = np.random.default_rng(seed)
  ground = blocks(rng, *size, 10) // (4, 2, 1)
  pattern = blocks(rng, 256, 256, 64) // (1, 2, 4)
  frames, boxes = [], []
  top, left = (rng.uniform(5, n - side - 5 - length * abs(v)) + (v < 0) * length * abs(v)
               for n, v in zip(size, step, strict=True))
  for t in range(length):
    s = round(side * grow**t)
    y, x = round(top + step[0] * t), round(left + step[1] * t)
    picked = np.arange(s) * 256 // s
    frame = ground.copy().astype(np.uint8)
    frame[y:y + s, x:x + s] = pattern[picked[:, None], picked]
    frames.append(frame)
    boxes.append((x, y, s, s))
  return Clip(name, tuple(frames), {"boxes": np.array(boxes, np.float32)})


def frames(record):
  return iter(record.frames)


colours = dense.lab_blocks(cell=8, reach=0)
