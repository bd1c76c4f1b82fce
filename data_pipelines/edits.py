"""Edits that turn a video into a near-duplicate of it.

An edit is a function `(frames, rng) -> frames` on uint8 [T, H, W, 3] with T, H, W >= 1, drawn from
a NumPy generator. The result has at least one frame and one pixel; T, H and W may differ from the
input's (cropping, borders, rescaling, change of speed). An edit never changes its input, and the
same frames and generator state give the same result. The edits work at any frame rate, so the same
code serves whole videos and frames sampled at one a second.
"""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from data_pipelines.encode import decode_bytes, encode_bytes

Edit = Callable[[np.ndarray, np.random.Generator], np.ndarray]

_WORDS = "LIVE NEWS WATCH THIS SUBSCRIBE BEST OF VIDEO REPLAY AMAZING HD FUNNY PART".split()


def speed(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Plays 0.7 to 1.6 times as fast; frames are repeated or left out."""
  n = max(1, round(len(frames) / rng.uniform(0.7, 1.6)))
  return frames[np.arange(n) * len(frames) // n]


def drop_frames(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Loses each frame with probability 0.05 to 0.25; one frame always stays."""
  keep = rng.random(len(frames)) >= rng.uniform(0.05, 0.25)
  keep[rng.integers(len(frames))] = True
  return frames[keep]


def temporal_crop(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Keeps 60 to 90 % of the frames, in one piece, at least one; two such crops always overlap."""
  n = max(1, round(len(frames) * rng.uniform(0.6, 0.9)))
  start = rng.integers(len(frames) - n + 1)
  return frames[start : start + n]


def fast_forward(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Plays 1.6 to 3 times as fast; frames are left out."""
  n = max(1, round(len(frames) / rng.uniform(1.6, 3)))
  return frames[np.arange(n) * len(frames) // n]


def slow_motion(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Plays 1.6 to 3 times as slowly; frames are repeated."""
  n = round(len(frames) * rng.uniform(1.6, 3))
  return frames[np.arange(n) * len(frames) // n]


def pause(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Stands still at one frame for 10 to 50 % of the video's length, at least a frame longer."""
  at, n = rng.integers(len(frames)), max(1, round(len(frames) * rng.uniform(0.1, 0.5)))
  return np.concatenate([frames[:at], np.repeat(frames[at : at + 1], n, axis=0), frames[at:]])


def reverse(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Plays from the end to the beginning."""
  del rng
  return frames[::-1]


def shuffle(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Cuts into 2 to 6 pieces, loses each with probability 0.2, and shows the others in any order.

  At least one piece stays; order and direction inside a piece do not change.
  """
  pieces = np.array_split(np.arange(len(frames)), min(len(frames), int(rng.integers(2, 7))))
  order = rng.permutation(len(pieces))
  stay = rng.random(len(pieces)) >= 0.2
  stay[rng.integers(len(pieces))] = True
  return frames[np.concatenate([pieces[i] for i in order if stay[i]])]


def crop(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Cuts out a window of 70 to 95 % of either side."""
  height, width = frames.shape[1:3]
  h, w = (max(1, round(side * rng.uniform(0.7, 0.95))) for side in (height, width))
  y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
  return frames[:, y : y + h, x : x + w]


def border(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Adds bars of one colour, mostly black, above and below, left and right, or all round."""
  height, width = frames.shape[1:3]
  share = rng.uniform(0.05, 0.18)
  sides = [(1, 0), (0, 1), (1, 1)][rng.integers(3)]
  top, left = (max(1, round(n * share)) * on for n, on in zip((height, width), sides, strict=True))
  colour = np.zeros(3) if rng.random() < 0.7 else rng.integers(0, 256, 3)
  out = np.empty((len(frames), height + 2 * top, width + 2 * left, 3), np.uint8)
  out[:] = colour.astype(np.uint8)
  out[:, top : top + height, left : left + width] = frames
  return out


def rescale(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Changes the resolution by 0.5 to 1.1 and the aspect ratio by up to a fifth."""
  scale, aspect = rng.uniform(0.5, 1.1), np.exp(rng.uniform(-0.2, 0.2) / 2)
  height, width = frames.shape[1] * scale / aspect, frames.shape[2] * scale * aspect
  return resize(frames, max(1, round(height)), max(1, round(width)))


def flip(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Mirrors left and right."""
  del rng
  return frames[:, :, ::-1]


def rotate(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Turns by 4 to 15 degrees to either side, with black corners."""
  angle = rng.uniform(4, 15) * rng.choice([-1, 1])
  return _per_frame(frames, lambda i: i.rotate(angle, Image.Resampling.BILINEAR))


def inset(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Shows the video, 50 to 80 % of its size, on a blurred enlargement of itself."""
  height, width = frames.shape[1:3]
  y, x = height // 4, width // 4
  zoomed = frames[:, y : height - y, x : width - x]
  behind = gaussian_blur(resize(zoomed, height, width), max(1.0, min(height, width) / 16))
  return put_onto(frames, behind, rng)


def colour(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Changes brightness, contrast, gamma, saturation and hue."""
  levels = np.linspace(0, 1, 256) ** np.exp(rng.uniform(-0.35, 0.35))
  levels = (levels - 0.5) * rng.uniform(0.7, 1.3) + 0.5 + rng.uniform(-0.12, 0.12)
  turn, saturation = rng.uniform(-0.5, 0.5), rng.uniform(0.5, 1.5)
  table = np.clip(255 * levels, 0, 255).astype(np.uint8)
  return _mix(table[frames], _hue_matrix(turn, saturation))


def grey(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Takes 80 to 100 % of the colour away."""
  return _mix(frames, _hue_matrix(0, rng.uniform(0, 0.2)))


def posterise(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Keeps 4 to 8 levels of every colour."""
  step = 255 / (int(rng.integers(4, 9)) - 1)
  table = np.rint(np.rint(np.arange(256) / step) * step).astype(np.uint8)
  return table[frames]


def sharpen(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Raises edges by 100 to 300 % over a radius of 1.5 % of the shorter side, at least a pixel."""
  radius = max(1.0, 0.015 * min(frames.shape[1:3]))
  mask = ImageFilter.UnsharpMask(radius, int(rng.integers(100, 301)), threshold=0)
  return _per_frame(frames, lambda image: image.filter(mask))


def blur(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Gaussian blur with a radius of 0.5 to 1.5 % of the shorter side, at least half a pixel."""
  radius = max(0.5, min(frames.shape[1:3]) * rng.uniform(0.005, 0.015))
  return gaussian_blur(frames, radius)


def noise(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Adds Gaussian noise with a standard deviation of 4 to 14 grey levels."""
  height, width = frames.shape[1:3]
  # One field is drawn, and every frame sees it through its own window: much faster, looks the same.
  deviation = np.float32(rng.uniform(4, 14))
  field = deviation * rng.standard_normal((height + 32, width + 32, 3), np.float32)
  out = np.empty_like(frames)
  for i, (y, x) in enumerate(rng.integers(0, 33, (len(frames), 2))):
    noisy = frames[i] + field[y : y + height, x : x + width]
    out[i] = np.clip(noisy, 0, 255, out=noisy)
  return out


def text(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Writes a few words over the lower or upper part of the frame, in Pillow's own font."""
  height, width = frames.shape[1:3]
  layer = Image.new("RGBA", (width, height))
  pen = ImageDraw.Draw(layer)
  words = " ".join(rng.choice(_WORDS, rng.integers(1, 4)))
  font = ImageFont.load_default(size=max(4, round(height * rng.uniform(0.08, 0.14))))
  place = (width * rng.uniform(0.3, 0.7), height * rng.choice([0.12, 0.8, 0.9]))
  if rng.random() < 0.5:
    pen.rectangle(pen.textbbox(place, words, font=font, anchor="mm"), fill=(0, 0, 0, 170))
  fill = (*(int(c) for c in rng.integers(150, 256, 3)), 255)
  pen.text(place, words, fill=fill, font=font, anchor="mm")
  return _overlay(frames, layer)


def logo(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Puts a coloured sign into a corner."""
  height, width = frames.shape[1:3]
  layer = Image.new("RGBA", (width, height))
  radius = max(1.0, min(height, width) * rng.uniform(0.07, 0.13))
  x, y = ((0.14, 0.86)[i] * n for i, n in zip(rng.integers(0, 2, 2), (width, height), strict=True))
  colours = rng.integers(0, 256, (2, 3))
  fill, ink = ((*(int(c) for c in row), 220) for row in colours)
  pen = ImageDraw.Draw(layer)
  pen.regular_polygon((x, y, radius), int(rng.integers(3, 9)), int(rng.integers(90)), fill, ink)
  pen.ellipse((x - radius / 2, y - radius / 2, x + radius / 2, y + radius / 2), fill=ink)
  return _overlay(frames, layer)


def emoji(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Sticks one to three round faces anywhere onto the picture."""
  height, width = frames.shape[1:3]
  layer = Image.new("RGBA", (width, height))
  pen = ImageDraw.Draw(layer)
  for _ in range(int(rng.integers(1, 4))):
    r = max(1.0, min(height, width) * rng.uniform(0.06, 0.14))
    x, y = rng.uniform(0.1, 0.9, 2) * (width, height)
    skin = (255, int(rng.integers(150, 230)), int(rng.integers(40, 120)), 255)
    pen.ellipse((x - r, y - r, x + r, y + r), skin, (90, 50, 0, 255))
    for side in (-1, 1):
      eye = x + 0.38 * side * r
      pen.ellipse((eye - r / 7, y - 0.45 * r, eye + r / 7, y - 0.1 * r), (40, 20, 0, 255))
    mouth = (0, 180) if rng.random() < 0.7 else (180, 360)
    pen.chord((x - r / 2, y, x + r / 2, y + 0.6 * r), *mouth, (120, 20, 20, 255))
  return _overlay(frames, layer)


def reencode(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Encodes as H.264 at low quality (crf 30 to 42) and decodes again."""
  height, width = frames.shape[1:3]
  decoded = decode_bytes(encode_bytes(frames, fps=8, crf=int(rng.integers(30, 43))))
  return decoded[:, :height, :width]


# In the order in which `random_edit` applies them: what a player shows, then where, then how.
EDITS: dict[str, Edit] = {
  "speed": speed, "fast_forward": fast_forward, "slow_motion": slow_motion,
  "drop_frames": drop_frames, "temporal_crop": temporal_crop, "shuffle": shuffle,
  "reverse": reverse, "pause": pause,
  "flip": flip, "crop": crop, "rescale": rescale, "rotate": rotate, "border": border,
  "colour": colour, "grey": grey, "posterise": posterise, "sharpen": sharpen, "blur": blur,
  "noise": noise, "inset": inset, "text": text, "logo": logo, "emoji": emoji,
  "reencode": reencode,
}  # fmt: skip

# What `random_edit` chooses from by default. Drawn data sets and stored features depend on it: it
# must not grow with `EDITS`.
USUAL = ("speed", "drop_frames", "temporal_crop", "flip", "crop", "rescale", "border", "colour",
         "grey", "blur", "noise", "text", "logo", "reencode")  # fmt: skip

# `Record.edit_strength` -> arguments of `random_edit`. "strong" is in the manner of S2VS, which
# learns from two heavily edited copies of every video: order and speed of time, geometry, colour,
# overlays, video in video.
STRENGTHS: dict[str, dict] = {"": {}, "strong": {"n": (3, 6), "names": tuple(EDITS)}}


def random_edit(
  frames: np.ndarray,
  seed: int,
  n: tuple[int, int] = (2, 4),
  names: Sequence[str] = USUAL,
) -> np.ndarray:
  """Applies a few different edits.

  Args:
    frames: uint8 [T, H, W, 3], T, H, W >= 1.
    seed: >= 0; fixes which edits, and what they do.
    n: the least and the largest number of edits.
    names: keys of `EDITS` to choose from.

  Returns:
    uint8 [T', H', W', 3], a new array, with T', H', W' >= 1.
  """
  rng = np.random.default_rng([seed, 40])
  count = min(int(rng.integers(n[0], n[1] + 1)), len(names))
  chosen = set(rng.choice(sorted(names), count, replace=False).tolist())
  for name, edit in EDITS.items():
    if name in chosen:
      frames = edit(frames, rng)
  return np.array(frames, order="C")


def insert_into(frames: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Cuts a part of a video (40 to 100 % of its frames, in one piece) into another video.

  Args:
    frames: the video to copy from, uint8 [T, H, W, 3].
    other: the video to cut into, uint8 [T2, H2, W2, 3]; resized to H x W.
    rng: drawn from.

  Returns:
    uint8 [T2 + part, H, W, 3].
  """
  n = max(1, round(len(frames) * rng.uniform(0.4, 1.0)))
  start = rng.integers(len(frames) - n + 1)
  at = rng.integers(len(other) + 1)
  host = resize(other, *frames.shape[1:3])
  return np.concatenate([host[:at], frames[start : start + n], host[at:]])


def put_onto(frames: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Shows a video small (50 to 80 % of either side), somewhere on another video.

  Args:
    frames: the video to show, uint8 [T, H, W, 3].
    other: the video behind it, uint8 [T2, H2, W2, 3]; resized to H x W, repeated or cut to T.
    rng: drawn from.

  Returns:
    uint8 [T, H, W, 3].
  """
  height, width = frames.shape[1:3]
  share = rng.uniform(0.5, 0.8)
  h, w = max(1, round(height * share)), max(1, round(width * share))
  y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
  out = resize(other, height, width)[np.arange(len(frames)) % len(other)]
  out[:, y : y + h, x : x + w] = resize(frames, h, w)
  return out


def resize(frames: np.ndarray, height: int, width: int) -> np.ndarray:
  """Frames uint8 [T, H, W, 3] at another size, by antialiased bilinear interpolation."""
  if frames.shape[1:3] == (height, width):
    return frames
  return _per_frame(frames, lambda i: i.resize((width, height), Image.Resampling.BILINEAR))


def gaussian_blur(frames: np.ndarray, radius: float) -> np.ndarray:
  """Frames uint8 [T, H, W, 3] blurred with a standard deviation of `radius` pixels."""
  blur_ = ImageFilter.GaussianBlur(radius)
  return _per_frame(frames, lambda image: image.filter(blur_))


def _per_frame(frames, function):
  frames = np.ascontiguousarray(frames)
  return np.stack([np.asarray(function(Image.fromarray(frame))) for frame in frames])


def _hue_matrix(turn, saturation):
  """Colour matrix [3, 3] that keeps luma, turns hue by an angle and scales saturation."""
  to_yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
  cos, sin = saturation * np.cos(turn), saturation * np.sin(turn)
  turned = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
  return np.linalg.inv(to_yiq) @ turned @ to_yiq


def _mix(frames, matrix):
  # Pillow rather than `@`, whose last bits may depend on the number of BLAS threads.
  rows = tuple(np.pad(matrix, ((0, 0), (0, 1))).ravel().tolist())
  return _per_frame(frames, lambda image: image.convert("RGB", rows))


def _overlay(frames, layer):
  """Lays an RGBA picture over every frame; only its box is touched."""
  out = np.array(frames)
  box = layer.getbbox()
  if box is None:
    return out
  picture = np.asarray(layer.crop(box), np.float32)
  alpha = picture[..., 3:] / 255
  part = out[:, box[1] : box[3], box[0] : box[2]]
  part[:] = part + (picture[..., :3] - part) * alpha + 0.5
  return out
