"""Milliseconds of CPU time per clip of the augmentations, against a plain loop over frames.

  python -m benchmarks.augment [--clips=40] [--repeats=3]

The plain loop is what a training script does with Pillow and torchvision: crop, resize,
ImageEnhance, hue by way of HSV, convert, GaussianBlur, transpose, one frame after the other. It
draws the same numbers, and its pixels are compared with ours. One thread; the best repeat counts.
"""

import argparse
import functools
import time

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from data_pipelines import augment
from data_pipelines.augment.colour import jitter_params
from data_pipelines.augment.geometry import random_resized_crop_box
from data_pipelines.render import SceneSpec, render_scene

# name: (frames, transform)
CASES = {
  "contrastive_video 8 x 224": (8, augment.contrastive_video()),
  "contrastive_video 16 x 112": (16, augment.contrastive_video(112)),
  "fine_tune 32 x 224": (32, augment.fine_tune()),
  "linear_video 8 x 224": (8, augment.linear_video()),
  "corrflow 3 x 256": (3, augment.corrflow()),
}
AGAINST_PLAIN = [(1, 224), (8, 224), (16, 112)]  # frames, size
ENHANCE = dict(brightness=ImageEnhance.Brightness, contrast=ImageEnhance.Contrast,
               saturation=ImageEnhance.Color)


def turn_hue(image, turn):
  h, s, v = image.convert("HSV").split()
  h = Image.fromarray(np.asarray(h) + np.uint8(int(turn * 255) % 256))
  return Image.merge("HSV", (h, s, v)).convert("RGB")


def plain(frames, rng, size, area=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.1)):
  """What `moco` does."""
  top, left, h, w = random_resized_crop_box(rng, *frames.shape[1:3], area)
  colours = jitter_params(rng, *jitter) if rng.random() < 0.8 else None
  grey = rng.random() < 0.2
  sigma = rng.uniform(0.1, 2.0) if rng.random() < 0.5 else None
  mirrored = rng.random() < 0.5
  out = []
  for frame in frames:
    image = Image.fromarray(frame).crop((left, top, left + w, top + h))
    image = image.resize((size, size), Image.Resampling.BILINEAR)
    for name in colours["order"] if colours else ():
      image = (turn_hue(image, colours["hue"]) if name == "hue"
               else ENHANCE[name](image).enhance(colours[name]))
    if grey:
      image = image.convert("L").convert("RGB")
    if sigma is not None:
      image = image.filter(ImageFilter.GaussianBlur(sigma))
    if mirrored:
      image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    out.append(np.asarray(image))
  return np.stack(out)


def milliseconds(function, frames, clips, repeats):
  """CPU time per clip, and what came out."""
  best = np.inf
  for _ in range(repeats):
    start = time.process_time()
    made = [function(frames, np.random.default_rng(seed)) for seed in range(clips)]
    best = min(best, time.process_time() - start)
  return 1e3 * best / clips, made


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--clips", type=int, default=40)
  parser.add_argument("--repeats", type=int, default=3)
  args = parser.parse_args()
  video = render_scene(SceneSpec(seed=0, height=256, width=320, n_frames=32))[0]
  how = args.clips, args.repeats
  for n, size in AGAINST_PLAIN:
    ours, a = milliseconds(augment.moco(size), video[:n], *how)
    loop, b = milliseconds(functools.partial(plain, size=size), video[:n], *how)
    same = all((x == y).all() for x, y in zip(a, b, strict=True))
    print(f"{f'moco {n} x {size}':28} {ours:8.2f} ms, plain loop {loop:.2f} ms, "
          f"{'the same' if same else 'OTHER'} pixels", flush=True)
  for name, (n, transform) in CASES.items():
    print(f"{name:28} {milliseconds(transform, video[:n], *how)[0]:8.2f} ms", flush=True)


if __name__ == "__main__":
  main()
