"""Slow twins of the augmentation: pixel by pixel, in Python's float64, straight from formulas."""

import colorsys
import math

import numpy as np


def resize_bilinear(frame: np.ndarray, height: int, width: int) -> np.ndarray:
  """[H, W, 3] by the four pixels around each half-pixel centre, clamped at the edge; float64."""
  old_h, old_w = frame.shape[:2]
  out = np.zeros((height, width, 3))
  for i in range(height):
    for j in range(width):
      y, x = (i + 0.5) * old_h / height - 0.5, (j + 0.5) * old_w / width - 0.5
      for r in (math.floor(y), math.floor(y) + 1):
        for c in (math.floor(x), math.floor(x) + 1):
          weight = (1 - abs(y - r)) * (1 - abs(x - c))
          row, column = min(max(r, 0), old_h - 1), min(max(c, 0), old_w - 1)
          out[i, j] += weight * frame[row, column]
  return out


def luma(pixel) -> int:
  """Pillow's "L" of one RGB pixel."""
  r, g, b = (int(v) for v in pixel)
  return (19595 * r + 38470 * g + 7471 * b + 32768) >> 16


def hue(frame: np.ndarray, turn: float) -> np.ndarray:
  """[H, W, 3] with the hue turned in real numbers, no 8-bit HSV between; float64 levels."""
  out = np.zeros(frame.shape)
  for place in np.ndindex(frame.shape[:2]):
    h, s, v = colorsys.rgb_to_hsv(*(frame[place] / 255))
    out[place] = 255 * np.array(colorsys.hsv_to_rgb((h + turn) % 1, s, v))
  return out


def hue_8bit(frame: np.ndarray, turn: float) -> np.ndarray:
  """The same through HSV cut off to 8 bits, and rounded; uint8."""
  out = np.zeros(frame.shape, np.uint8)
  for place in np.ndindex(frame.shape[:2]):
    h, s, v = colorsys.rgb_to_hsv(*(frame[place] / 255))
    h8, s8 = (int(h * 255 + 1e-4) + int(turn * 255)) % 256, int(s * 255 + 1e-4)
    rgb = colorsys.hsv_to_rgb(h8 / 255, s8 / 255, v)
    out[place] = [math.floor(255 * level + 0.5) for level in rgb]
  return out
