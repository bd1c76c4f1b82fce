"""Stock shots: title cards, skies, fades and logos that recur over unrelated videos."""

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_pipelines.render import texture
from data_pipelines.render.truth import Truth

N_STOCK = 16
_WORDS = "THE NEWS TODAY LIVE PART ONE END STORY WORLD NIGHT FIRST LAST GREAT SMALL".split()


@functools.lru_cache(maxsize=2 * N_STOCK)
def stock_shot(
  seed: int, index: int, height: int, width: int, n_frames: int, fps: float
) -> np.ndarray:
  """One stock shot, uint8 [T, H, W, 3], read-only; the same arguments give the same pixels.

  Args:
    seed: of the whole pool.
    index: which shot of the pool; its kind is index modulo the number of kinds.
    height, width: of a frame in pixels.
    n_frames: T.
    fps: frames per second.
  """
  rng = np.random.default_rng([seed, 30, index])
  t = np.arange(n_frames) / fps
  frames = _KINDS[index % len(_KINDS)](rng, height, width, t)
  frames.setflags(write=False)
  return frames


def stock_truth(index: int, n_frames: int, height: int, width: int) -> Truth:
  """The truth of a stock shot: no objects, no classes."""
  none = np.full(n_frames, -1, np.int16)
  return Truth(
    np.zeros((n_frames, height, width), np.uint8), np.zeros((n_frames, 0, 6, 2), np.float32),
    np.zeros((n_frames, 0, 6), bool), np.zeros((n_frames, 0, 4), np.float32), none, none,
    np.zeros(n_frames, np.int16), np.full(n_frames, index, np.int16), none.astype(np.int64),
  )  # fmt: skip


def _colour(rng, low=0, high=256):
  return tuple(int(c) for c in rng.integers(low, high, 3))


def _ramp(top, bottom, height, width):
  s = np.linspace(0, 1, height)[:, None, None]
  return np.broadcast_to(np.array(top) * (1 - s) + np.array(bottom) * s, (height, width, 3))


def _sky(rng, height, width, t):
  top = (rng.integers(40, 120), rng.integers(110, 170), rng.integers(190, 250))
  ramp = _ramp(top, _colour(rng, 170, 240), height, width)
  n = 1 << int(np.ceil(np.log2(max(height, width, 8))))
  clouds = np.clip(2.2 * texture.fractal(rng, n, 1.7) - 1.1, 0, 0.8)
  speed = rng.uniform(2, 7) * height / 128
  rolled = [np.roll(clouds, int(s * speed), 1)[:height, :width, None] for s in t]
  return np.stack([ramp + (245 - ramp) * c for c in rolled]).astype(np.uint8)


def _fade(rng, height, width, t):
  n = 1 << int(np.ceil(np.log2(max(height, width, 8))))
  image = texture.fractal(rng, n, 2.2)[:height, :width, None] * np.array(_colour(rng, 30, 110))
  level = 0.55 + 0.45 * np.cos(2 * np.pi * t / rng.uniform(2.5, 4))
  return (level[:, None, None, None] * image).astype(np.uint8)


def _text(image, place, words, fill, size):
  font = ImageFont.load_default(size=max(size, 4))
  ImageDraw.Draw(image).text(place, words, fill=fill, font=font, anchor="mm")


def _title(rng, height, width, t):
  image = Image.fromarray(
    _ramp(_colour(rng, 0, 70), _colour(rng, 0, 130), height, width).astype(np.uint8)
  )
  fill = _colour(rng, 190, 256)
  for row in range(2):
    words = " ".join(rng.choice(_WORDS, 2))
    _text(image, (width // 2, height * (2 + row) // 5), words, fill, height // 8)
  glow = 0.85 + 0.15 * np.sin(2 * t)
  return (np.asarray(image)[None] * glow[:, None, None, None]).astype(np.uint8)


def _logo(rng, height, width, t):
  back, fill, ink = _colour(rng, 0, 256), _colour(rng, 120, 256), _colour(rng, 0, 120)
  sides, word = int(rng.integers(3, 8)), "".join(rng.choice(list("ABKMORSTVXZ"), 2))
  frames = []
  for s in t:
    image = Image.new("RGB", (width, height), back)
    radius = 0.34 * height * (1 + 0.06 * np.sin(3 * s))
    circle = (width / 2, height / 2, max(radius, 1))
    ImageDraw.Draw(image).regular_polygon(circle, sides, rotation=20 * s, fill=fill, outline=ink)
    _text(image, (width // 2, height // 2), word, ink, height // 4)
    frames.append(np.asarray(image))
  return np.stack(frames)


def _credits(rng, height, width, t):
  tall = Image.new("RGB", (width, 4 * height), _colour(rng, 0, 40))
  for row in range(24):
    words = " ".join(rng.choice(_WORDS, rng.integers(1, 3)))
    _text(tall, (width // 2, height * (row + 1) // 6), words, _colour(rng, 170, 256), height // 13)
  roll = np.asarray(tall)
  return np.stack([roll[int(s * height / 5) % (3 * height) :][:height] for s in t])


def _bars(rng, height, width, t):
  colours = rng.permutation(np.array([[c >> 2 & 1, c >> 1 & 1, c & 1] for c in range(1, 8)])) * 200
  image = np.broadcast_to(colours[np.arange(width) * 7 // width], (height, width, 3))
  return np.stack([np.clip(image + 8 * np.sin(5 * s), 0, 255) for s in t]).astype(np.uint8)


def _sea(rng, height, width, t):
  n = 1 << int(np.ceil(np.log2(max(height, width, 8))))
  deep, crest = np.array(_colour(rng, 10, 90)), np.array(_colour(rng, 120, 230))
  swell = [texture.fractal(rng, n, 1.5) for _ in range(2)]
  frames = []
  for s in t:
    shift = int(6 * s * height / 128)
    waves = np.roll(swell[0], shift, 1) + np.roll(swell[1], (-shift, shift // 2), (1, 0))
    level = np.clip(1.6 * (waves - 0.7), 0, 1)[:height, :width, None]
    frames.append(deep + (crest - deep) * level)
  return np.stack(frames).astype(np.uint8)


def _countdown(rng, height, width, t):
  back, ink = _colour(rng, 110, 200), _colour(rng, 0, 60)
  frames = []
  for s in t:
    image = Image.new("RGB", (width, height), back)
    box = (width / 2 - 0.4 * height, 0.1 * height, width / 2 + 0.4 * height, 0.9 * height)
    pen = ImageDraw.Draw(image)
    pen.pieslice(box, -90, -90 + 360 * (s % 1), fill=tuple(c * 3 // 4 for c in back))
    pen.ellipse(box, outline=ink, width=max(1, height // 40))
    _text(image, (width // 2, height // 2), str(5 - int(s) % 5), ink, height // 2)
    frames.append(np.asarray(image))
  return np.stack(frames)


_KINDS = (_sky, _title, _fade, _logo, _credits, _bars, _sea, _countdown)
