"""What a scene is made of: the ground's texture, and objects cut out of textured squares.

The material of an object has coordinates (u, v), v down; its outline stays within the unit circle.
"""

import dataclasses
import functools

import numpy as np

from data_pipelines.render import texture

N_POINTS = 6
MAX_OBJECTS = 5
SPAN = 1.15  # the texture of an object covers [-SPAN, SPAN] both ways


@dataclasses.dataclass(frozen=True)
class Material:
  """An object at rest.

  Attributes:
    words: its texture, packed (`texture.pack`) [n, n]; alpha 0 outside of the outline.
    size: world units per unit of u and v.
    amplitude, wave, rate, phase: of the two shears that bend it, each [2] (see `scene`).
    points: key points (u, v), [N_POINTS, 2].
  """

  words: np.ndarray
  size: float
  amplitude: np.ndarray
  wave: np.ndarray
  rate: np.ndarray
  phase: np.ndarray
  points: np.ndarray


@functools.lru_cache(maxsize=8)
def build(seed, appearance, n_objects, resolution):
  """The ground's texture (packed [n, n]) and the materials of a scene."""
  rng = np.random.default_rng([seed, 10])
  kind = texture.APPEARANCES[appearance]
  drawn = int(rng.integers(2, MAX_OBJECTS + 1))
  half = max(resolution // 2, 32)
  ground = texture.paint(rng, kind.ground, kind.ground_colours, half, contrast=0.8)
  ground = texture.enlarge(ground, resolution // half)
  materials = [_material(rng, kind.pattern, kind.colours, half, rng.uniform(0.2, 0.27))]
  for _ in range((drawn if n_objects is None else n_objects) - 1):
    other = texture.APPEARANCES[rng.integers(len(texture.APPEARANCES))]
    size = rng.uniform(0.1, 0.18)
    materials.append(_material(rng, other.pattern, other.colours, half // 2, size))
  return texture.pack(ground), materials


def _material(rng, pattern, colours, n, size):
  line = ((np.arange(n, dtype=np.float32) + 0.5) / n * 2 - 1) * SPAN
  u, v = line[None], line[:, None]
  turn, radius = np.arctan2(v, u), np.hypot(u, v)
  orders = range(2, 7)
  amplitudes = (rng.normal(0, 0.22, 5) / np.power(orders, 0.7)).tolist()
  shifts = rng.uniform(0, 2 * np.pi, 5).tolist()

  def outline(angle):
    waves = (a * np.cos(k * angle + s) for a, k, s in zip(amplitudes, orders, shifts, strict=True))
    return np.clip(0.72 + sum(waves), 0.4, 0.97)

  depth = outline(turn) - radius
  image = texture.paint(rng, pattern, colours, n)
  # A darker rim and a light from above make the flat cut-out look round.
  relief = np.clip(0.45 + 2.2 * depth, 0.45, 1) * (1.08 - 0.16 * v)
  image = np.clip(image * relief[..., None], 0, 255).astype(np.uint8)
  alpha = np.clip((depth * n / (2 * SPAN) + 0.5) * 127.5, 0, 255).astype(np.uint8)
  angles = 2 * np.pi * (np.arange(N_POINTS) + rng.uniform(-0.3, 0.3, N_POINTS)) / N_POINTS
  reach = (outline(angles) * rng.uniform(0.3, 0.75, N_POINTS))[:, None]
  return Material(
    words=texture.pack(image, alpha), size=size,
    amplitude=rng.uniform(0.04, 0.13, 2), wave=rng.uniform(1.5, 3.0, 2),
    rate=rng.uniform(1.5, 4.0, 2), phase=rng.uniform(0, 2 * np.pi, 2),
    points=reach * np.stack([np.cos(angles), np.sin(angles)], 1),
  )  # fmt: skip


