"""Draws scenes: textured objects of irregular, deforming outline before a textured ground.

Every object is a square of material with coordinates (u, v), see `material`. At time t it is bent
by two shears, each of which moves one coordinate by a wave in the other, and then rotated, scaled
and moved. Each step has an inverse in closed form, so pixels are looked up in the texture exactly
where the same formula, run forwards, puts the key points.
"""

import dataclasses
import functools

import numpy as np

from data_pipelines.edits import gaussian_blur
from data_pipelines.render.material import N_POINTS, SPAN, build
from data_pipelines.render.motion import MOTIONS, Pose, camera_pose, main_pose, wander
from data_pipelines.render.truth import Truth


@dataclasses.dataclass(frozen=True)
class SceneSpec:
  """What to draw.

  The same scene at another time or from another camera differs in `time`, `camera` and
  `camera_seed` only. Another scene of the same kind has another `seed` and the same `appearance`
  and `motion`.

  Attributes:
    seed: of objects, textures and paths, >= 0.
    appearance: class, an index into `APPEARANCES`.
    motion: class of the main object's motion, an index into `MOTIONS`.
    camera: one of `CAMERAS`.
    camera_seed: of viewpoint, camera course, light and sensor noise, >= 0.
    time: of the first frame, in seconds of the scene.
    height, width: of a frame in pixels, >= 1.
    n_frames: >= 1.
    fps: frames per second.
    n_objects: 1 to 5; None draws 2 to 5 from the seed.
    noise: standard deviation of the sensor noise in grey levels.
    light: strength of the changes of light; 0 for none, 1 as usual.
    flicker: standard deviation of the logarithm of each channel's gain from frame to frame, as of a
      camera whose exposure and white balance don't settle; 0 for none.
    blur: radius of a Gaussian blur in pixels; 0 for none.
    plain: every scene shows the same object before the same ground, whatever `appearance` says:
      only motion, viewpoint, light and noise tell scenes apart.
  """

  seed: int
  appearance: int = 0
  motion: int = 0
  camera: str = "static"
  camera_seed: int = 0
  time: float = 0.0
  height: int = 128
  width: int = 128
  n_frames: int = 16
  fps: float = 8.0
  n_objects: int | None = None
  noise: float = 2.5
  light: float = 1.0
  flicker: float = 0.0
  blur: float = 0.0
  plain: bool = False


def render_scene(spec: SceneSpec) -> tuple[np.ndarray, Truth]:
  """Draws one shot.

  Returns:
    frames uint8 [T, H, W, 3], and their truth.
  """
  resolution = _power_of_two(2 * spec.height)
  ground, materials = build(*((0, 0, 1) if spec.plain else (
    spec.seed, spec.appearance, spec.n_objects)), resolution)
  seconds = np.arange(spec.n_frames) / spec.fps
  t = spec.time + seconds
  to_pixels = _camera(spec, seconds)
  canvas = _draw_ground(ground, to_pixels, spec)
  labels = np.zeros(canvas.shape, np.uint8)
  points = np.empty((spec.n_frames, len(materials), N_POINTS, 2), np.float32)
  # Far objects first; the main object, number 0, is covered by half of the others.
  for k in _order(len(materials)):
    pose = main_pose(MOTIONS[spec.motion], spec.seed, t) if k == 0 else wander(spec.seed, k, t)
    affine = _compose(to_pixels, pose, materials[k].size)
    bend = _Bend.at(materials[k], t)
    points[:, k] = _forward(materials[k].points, bend, affine)
    _draw_object(canvas, labels, k + 1, materials[k], bend, affine)
  frames = _expose(canvas.view(np.uint8).reshape(*canvas.shape, 4)[..., :3], spec, t)
  return frames, _truth(spec, labels, points)


def _power_of_two(n):
  return 1 << max(5, int(np.ceil(np.log2(max(n, 1)))))


def _order(n):
  return [*range(2, n, 2), 0, *range(1, n, 2)]


@dataclasses.dataclass(frozen=True)
class _Bend:
  """The two shears: u += a0 sin(k0 v + p0[t]), then v += a1 sin(k1 u + p1[t])."""

  a: np.ndarray
  k: np.ndarray
  p: np.ndarray  # [T, 2]

  @classmethod
  def at(cls, material, t):
    return cls(material.amplitude, material.wave, material.phase + material.rate * t[:, None])


def _forward(uv, bend, affine):
  """Material points [P, 2] to pixels [T, P, 2]."""
  u = uv[:, 0] + bend.a[0] * np.sin(bend.k[0] * uv[:, 1] + bend.p[:, :1])
  v = uv[:, 1] + bend.a[1] * np.sin(bend.k[1] * u + bend.p[:, 1:])
  linear, offset = affine
  return np.einsum("tij,tpj->tpi", linear, np.stack([u, v], 2)) + offset[:, None]


def _rotation(angle):
  cos, sin = np.cos(angle), np.sin(angle)
  return np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1)


def _camera(spec, seconds):
  """World to pixels: linear [T, 2, 2] and offset [T, 2]."""
  view = camera_pose(spec.camera, spec.camera_seed, seconds)
  linear = _rotation(-view.angle) * (view.scale * spec.height)[:, None, None]
  middle = np.array([spec.width - 1, spec.height - 1]) / 2
  return linear, middle - np.einsum("tij,tj->ti", linear, view.centre)


def _compose(to_pixels, pose: Pose, size):
  """Bent material to pixels."""
  linear, offset = to_pixels
  local = _rotation(pose.angle) * (pose.scale * size)[:, None, None]
  return linear @ local, np.einsum("tij,tj->ti", linear, pose.centre) + offset


def _inverse(affine):
  linear, offset = affine
  inverse = np.linalg.inv(linear)
  return inverse, -np.einsum("tij,tj->ti", inverse, offset)


def _draw_ground(words, to_pixels, spec):
  """The ground under the camera, packed [T, H, W]; a world unit is half of the texture."""
  n = len(words)
  bits = n.bit_length() - 1
  linear, offset = _inverse(to_pixels)
  # Texels in fixed point with 15 binary places: whole numbers add, wrap and shift fast and exactly.
  unit = (n / 2) * 32768
  x, y = np.arange(spec.width), np.arange(spec.height)
  canvas = np.empty((spec.n_frames, spec.height, spec.width), words.dtype)
  flat = words.ravel()
  for t in range(spec.n_frames):
    (a, b), (c, d) = linear[t] * unit
    e, f = offset[t] * unit + 16384
    u = (a * x).astype(np.int64)[None] + (b * y + e).astype(np.int64)[:, None]
    v = (c * x).astype(np.int64)[None] + (d * y + f).astype(np.int64)[:, None]
    index = ((v >> 15) & (n - 1)) << bits
    index |= (u >> 15) & (n - 1)
    np.take(flat, index, out=canvas[t], mode="clip")
  return canvas


def _draw_object(canvas, labels, label, material, bend, affine):
  """Paints one object over the canvas [T, H, W] and its label over the labels, in its box only."""
  n = len(material.words)
  flat = material.words.ravel()
  height, width = canvas.shape[1:]
  inverse, shift = (a.astype(np.float32) for a in _inverse(affine))
  reach = 1 + bend.a.max()
  half = reach * np.abs(affine[0]).sum(2)
  low = np.ceil(affine[1] - half).astype(int).clip(0)
  high = np.floor(affine[1] + half).astype(int).clip(-1) + 1
  (a0, a1), (k0, k1) = bend.a.astype(np.float32), bend.k.astype(np.float32)
  p = bend.p.astype(np.float32)
  scale = np.float32(n / (2 * SPAN))
  for t in range(len(canvas)):
    (x0, y0), (x1, y1) = low[t], np.minimum(high[t], (width, height))
    if x0 >= x1 or y0 >= y1:
      continue
    x = np.arange(x0, x1, dtype=np.float32)[None]
    y = np.arange(y0, y1, dtype=np.float32)[:, None]
    u = inverse[t, 0, 0] * x + (inverse[t, 0, 1] * y + shift[t, 0])
    v = inverse[t, 1, 0] * x + (inverse[t, 1, 1] * y + shift[t, 1])
    v -= a1 * np.sin(k1 * u + p[t, 1])
    u -= a0 * np.sin(k0 * v + p[t, 0])
    column = ((u + SPAN) * scale).astype(np.int32).clip(0, n - 1)
    row = ((v + SPAN) * scale).astype(np.int32).clip(0, n - 1)
    words = flat.take(row * n + column)
    _blend(canvas[t, y0:y1, x0:x1], words)
    labels[t, y0:y1, x0:x1][words >= 0x80000000] = label


def _blend(target, words):
  """Lays packed pixels with alpha over a packed target, in place."""
  np.copyto(target, words, where=words >= 0xFF000000)
  rim = np.nonzero((words >= 0x01000000) & (words < 0xFF000000))
  if not len(rim[0]):
    return
  over = words[rim].view(np.uint8).reshape(-1, 4).astype(np.int32)
  under = target[rim].view(np.uint8).reshape(-1, 4).astype(np.int32)
  mixed = under + ((over - under) * over[:, 3:] + 127) // 255
  target[rim] = np.ascontiguousarray(mixed.astype(np.uint8)).view("<u4")[:, 0]


@functools.lru_cache(maxsize=4)
def _noise_bank(height, width):
  """Unit Gaussian noise, larger than a frame; frames look at it through a window that jumps."""
  rng = np.random.default_rng(20)
  return rng.standard_normal((2 * height + 16, 2 * width + 16, 3), dtype=np.float32)


def _expose(image, spec, t):
  """Changes of light, sensor noise and blur; uint8 [T, H, W, 3] in, the same out."""
  rng = np.random.default_rng([spec.camera_seed, 14])
  cast = 1 + spec.light * rng.normal(0, 0.05, 3)
  swing = spec.light * rng.uniform(0.02, 0.14)
  gain = cast * (1 + swing * np.sin(t * rng.uniform(0.5, 2.5) + rng.uniform(0, 6.3)))[:, None]
  if spec.flicker:
    unsteady = np.random.default_rng([spec.camera_seed, 15]).normal(0, 1, (len(image), 3))
    gain = gain * np.exp(spec.flicker * unsteady)
  gain = gain.astype(np.float32)
  bank = _noise_bank(spec.height, spec.width) * np.float32(spec.noise)
  out = np.empty(image.shape, np.uint8)
  corners = rng.integers(0, (spec.height + 16, spec.width + 16), (len(image), 2))
  for i, (y, x) in enumerate(corners):
    exposed = image[i] * gain[i]
    exposed += bank[y : y + spec.height, x : x + spec.width]
    np.clip(exposed, 0, 255, out=exposed)
    out[i] = exposed
  return gaussian_blur(out, spec.blur) if spec.blur > 0 else out


def _truth(spec, labels, points):
  """Boxes and visibility from the label map."""
  n, k = points.shape[:2]
  boxes = np.zeros((n, k, 4), np.float32)
  for i in range(k):
    seen = labels == i + 1
    for axis, size, other in ((0, spec.width, 1), (1, spec.height, 2)):
      line = seen.any(other)
      first, last = line.argmax(1), size - line[:, ::-1].argmax(1)
      boxes[:, i, axis] = np.where(line.any(1), first, 0)
      boxes[:, i, axis + 2] = np.where(line.any(1), last - first, 0)
  nearest = np.rint(points).astype(int)
  inside = ((nearest >= 0) & (nearest < (spec.width, spec.height))).all(3)
  x, y = np.clip(nearest, 0, (spec.width - 1, spec.height - 1)).transpose(3, 0, 1, 2)
  found = labels[np.arange(n)[:, None, None], y, x]
  visible = inside & (found == np.arange(1, k + 1)[:, None])
  full = functools.partial(np.full, n, dtype=np.int16)
  return Truth(
    labels, points, visible, boxes, full(spec.motion), full(spec.appearance), full(0), full(-1),
    np.full(n, spec.seed, np.int64),
  )  # fmt: skip
