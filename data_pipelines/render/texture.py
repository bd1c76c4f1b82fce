"""Textures: periodic fields on a square, coloured by a palette.

A field is float32 [n, n] in [0, 1] that repeats without a seam; n is a power of two. An appearance
class fixes the pattern and the palette of a scene's main object and the tone of its ground; each
scene draws its own noise, phases and small colour changes.
"""

import colorsys
import dataclasses

import numpy as np
from PIL import Image


@dataclasses.dataclass(frozen=True)
class Appearance:
  """Pattern of the main object, pattern of the ground, and their colours.

  Attributes:
    name: for reports.
    pattern, ground: keys of `PATTERNS`.
    colours, ground_colours: (hue, saturation, value) of the palette's ends and middle, in [0, 1].
  """

  name: str
  pattern: str
  ground: str
  colours: tuple
  ground_colours: tuple


def fractal(rng: np.random.Generator, n: int, slope: float = 1.2) -> np.ndarray:
  """Periodic noise whose amplitude falls with frequency as f^-slope; [n, n], mean 0.5."""
  fy, fx = np.fft.fftfreq(n, 1 / n)[:, None], np.fft.rfftfreq(n, 1 / n)[None]
  radius = np.hypot(fy, fx).astype(np.float32)
  radius[0, 0] = 1
  spectrum = rng.standard_normal((2, *radius.shape), dtype=np.float32)
  weight = radius**-slope
  weight[0, 0] = 0
  field = np.fft.irfft2((spectrum[0] + 1j * spectrum[1]) * weight, s=(n, n)).astype(np.float32)
  return np.clip(0.5 + 0.2 * field / (field.std() + 1e-9), 0, 1)


def _grid(rng, n, warp):
  """Coordinates in [0, 1) bent by noise, so that straight patterns look drawn by hand."""
  line = np.arange(n, dtype=np.float32) / n
  bend = [warp * (fractal(rng, n, 2.0) - 0.5) for _ in range(2)]
  return line[:, None] + bend[0], line[None] + bend[1]


def _edge(x, sharp=6.0):
  """A soft step at 0 from a signed field."""
  return np.clip(0.5 + sharp * x, 0, 1).astype(np.float32)


def _wave(x):
  return np.sin(np.float32(2 * np.pi) * x)


def _stripes(rng, n):
  y, x = _grid(rng, n, 0.12)
  a, b = rng.integers(3, 8), rng.integers(-4, 5)
  return _edge(_wave(a * y + b * x), 3)


def _checks(rng, n):
  y, x = _grid(rng, n, 0.06)
  k = rng.integers(3, 6)
  return _edge(_wave(k * y) * _wave(k * x), 5)


def _dots(rng, n):
  y, x = _grid(rng, n, 0.08)
  k = rng.integers(4, 7)
  return _edge(_wave(k * y) + _wave(k * x) - 0.7, 2)


def _blobs(rng, n):
  return _edge(fractal(rng, n, 1.9) - 0.5, 14)


def _cracks(rng, n):
  lines = np.minimum(*(np.abs(fractal(rng, n, 1.7) - 0.5) for _ in range(2)))
  return _edge(lines - 0.025, 22)


def _marble(rng, n):
  y, x = _grid(rng, n, 0.45)
  return 0.5 + 0.5 * _wave(rng.integers(2, 5) * y + rng.integers(1, 4) * x)


def _bricks(rng, n):
  y, x = _grid(rng, n, 0.03)
  rows = 2 * rng.integers(3, 5)
  row = np.floor(rows * y)
  u = 3 * x + 0.5 * (row % 2)
  gap = np.minimum(np.abs(rows * y - row - 0.5) - 0.36, 9)
  side = np.abs(u - np.floor(u) - 0.5) - 0.44
  tone = np.abs(np.sin(12.9898 * (row % rows) + 78.233 * np.floor(u) % 3)) * 0.45
  return np.where(np.maximum(gap, side) > 0, 1.0, tone).astype(np.float32)


def _grain(rng, n):
  y, x = _grid(rng, n, 0.2)
  line = fractal(rng, n, 1.0)[:, :1]
  return np.clip(0.5 * np.abs(_wave(rng.integers(5, 9) * y + _wave(x) * 0.3)) + 0.6 * line, 0, 1)


def _weave(rng, n):
  y, x = _grid(rng, n, 0.02)
  k = rng.integers(5, 9)
  over = _wave(k * y / 1) * _wave(k * x) > 0
  return np.where(over, np.abs(_wave(k * y)), 0.55 * np.abs(_wave(k * x))).astype(np.float32)


def _scales(rng, n):
  y, x = _grid(rng, n, 0.05)
  k = rng.integers(4, 7)
  row = np.floor(k * y)
  u, v = k * x + 0.5 * (row % 2), k * y - row
  return np.clip(np.hypot(u - np.floor(u) - 0.5, 0.8 * v) * 1.3, 0, 1).astype(np.float32)


def _clouds(rng, n):
  return fractal(rng, n, 1.6)


def _leaves(rng, n):
  layers = [_edge(fractal(rng, n, 1.5) - 0.56, 20) * tone for tone in (1.0, 0.75, 0.5)]
  return np.maximum.reduce(layers).astype(np.float32)


PATTERNS = {
  "stripes": _stripes, "checks": _checks, "dots": _dots, "blobs": _blobs, "cracks": _cracks,
  "marble": _marble, "bricks": _bricks, "grain": _grain, "weave": _weave, "scales": _scales,
  "clouds": _clouds, "leaves": _leaves,
}  # fmt: skip

APPEARANCES = (
  Appearance("tiger", "stripes", "leaves", ((0.08, 0.9, 0.95), (0.05, 0.7, 0.15)),
             ((0.30, 0.6, 0.5), (0.22, 0.5, 0.2))),
  Appearance("harlequin", "checks", "grain", ((0.97, 0.8, 0.8), (0.14, 0.3, 0.95)),
             ((0.08, 0.5, 0.55), (0.06, 0.6, 0.25))),
  Appearance("ladybird", "dots", "leaves", ((0.0, 0.9, 0.85), (0.0, 0.2, 0.1)),
             ((0.25, 0.5, 0.7), (0.28, 0.7, 0.3))),
  Appearance("cow", "blobs", "clouds", ((0.1, 0.1, 0.95), (0.07, 0.5, 0.2)),
             ((0.27, 0.6, 0.6), (0.2, 0.5, 0.45))),
  Appearance("dry earth", "cracks", "clouds", ((0.06, 0.6, 0.2), (0.08, 0.45, 0.75)),
             ((0.1, 0.3, 0.85), (0.58, 0.25, 0.75))),
  Appearance("marble", "marble", "checks", ((0.6, 0.1, 0.95), (0.62, 0.3, 0.4)),
             ((0.09, 0.2, 0.8), (0.04, 0.3, 0.45))),
  Appearance("brick", "bricks", "clouds", ((0.02, 0.65, 0.6), (0.08, 0.1, 0.8)),
             ((0.57, 0.5, 0.9), (0.6, 0.1, 0.95))),
  Appearance("wood", "grain", "bricks", ((0.09, 0.7, 0.75), (0.06, 0.8, 0.3)),
             ((0.6, 0.1, 0.6), (0.6, 0.1, 0.85))),
  Appearance("tartan", "weave", "cracks", ((0.4, 0.7, 0.5), (0.0, 0.7, 0.6)),
             ((0.1, 0.15, 0.5), (0.1, 0.1, 0.75))),
  Appearance("fish", "scales", "marble", ((0.48, 0.6, 0.9), (0.6, 0.8, 0.4)),
             ((0.53, 0.8, 0.7), (0.6, 0.9, 0.35))),
  Appearance("zebra", "stripes", "clouds", ((0.1, 0.05, 0.95), (0.6, 0.2, 0.1)),
             ((0.12, 0.5, 0.8), (0.08, 0.5, 0.5))),
  Appearance("lava", "cracks", "blobs", ((0.08, 1.0, 1.0), (0.0, 0.8, 0.15)),
             ((0.0, 0.3, 0.15), (0.02, 0.5, 0.4))),
  Appearance("camouflage", "blobs", "grain", ((0.2, 0.4, 0.55), (0.3, 0.5, 0.25)),
             ((0.12, 0.4, 0.7), (0.1, 0.4, 0.4))),
  Appearance("violet", "dots", "weave", ((0.8, 0.6, 0.8), (0.15, 0.6, 0.95)),
             ((0.65, 0.4, 0.4), (0.7, 0.3, 0.6))),
  Appearance("ice", "marble", "scales", ((0.52, 0.4, 1.0), (0.55, 0.1, 1.0)),
             ((0.6, 0.6, 0.45), (0.58, 0.5, 0.7))),
  Appearance("candy", "stripes", "dots", ((0.93, 0.6, 0.95), (0.5, 0.4, 0.95)),
             ((0.13, 0.4, 0.95), (0.9, 0.25, 0.95))),
)  # fmt: skip


def paint(
  rng: np.random.Generator, pattern: str, colours: tuple, n: int, contrast: float = 1.0
) -> np.ndarray:
  """A coloured texture, uint8 [n, n, 3]: the pattern between two colours, tinted and shaded.

  Args:
    rng: drawn from.
    pattern: a key of `PATTERNS`.
    colours: two (hue, saturation, value) triples in [0, 1]; each scene shifts them a little.
    n: side in texels, a power of two.
    contrast: 1 for the two colours as they are, towards 0 for their mean.
  """
  ends = np.array([_rgb(rng, c) for c in colours], np.float32)
  mean = ends.mean(0)
  low, high = mean + contrast * (ends - mean)
  field = PATTERNS[pattern](rng, n)[..., None]
  shade = fractal(rng, n, 1.1)[..., None] - 0.5
  tint = fractal(rng, n, 1.7)[..., None] - 0.5
  toward = rng.normal(0, 0.16, 3).astype(np.float32)
  image = low + (high - low) * field + tint * toward
  return np.clip(255 * image * (1 + 0.7 * shade), 0, 255).astype(np.uint8)


def enlarge(image: np.ndarray, factor: int) -> np.ndarray:
  """A periodic uint8 [n, n, 3] texture at factor times the resolution, without a seam."""
  pad = 4
  n = image.shape[0]
  wrapped = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="wrap")
  box = (pad, pad, pad + n, pad + n)
  size = (n * factor, n * factor)
  return np.asarray(Image.fromarray(wrapped).resize(size, Image.Resampling.BICUBIC, box=box))


def _rgb(rng, hsv):
  h, s, v = np.asarray(hsv) + rng.normal(0, (0.015, 0.06, 0.06))
  return colorsys.hsv_to_rgb(h % 1, float(np.clip(s, 0, 1)), float(np.clip(v, 0.05, 1)))


def pack(image: np.ndarray, alpha: np.ndarray | int = 255) -> np.ndarray:
  """RGB uint8 [..., 3] and alpha uint8 [...] as one little-endian word per texel, R lowest."""
  out = np.empty((*image.shape[:-1], 4), np.uint8)
  out[..., :3] = image
  out[..., 3] = alpha
  return out.view("<u4")[..., 0]
