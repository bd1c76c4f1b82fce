"""Predicted and true masks over some frames of a few sequences."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.figure import Figure

from vssl_jax.evaluators.masks import palette
from vssl_jax.metrics import segmentation as metrics

INK, FAINT = "#22262b", "#6b7280"


@dataclasses.dataclass(frozen=True)
class Strip:
  """Some frames of one sequence.

  Attributes:
    name: of the sequence.
    times: numbers of the frames.
    frames: uint8 [H, W, 3] each.
    truth, predicted: label maps [H, W] each; void is shown as background.
  """

  name: str
  times: tuple[int, ...]
  frames: tuple[np.ndarray, ...]
  truth: tuple[np.ndarray, ...]
  predicted: tuple[np.ndarray, ...]


def strip(name: str, predictions: Iterable[tuple], times: Sequence[int]) -> Strip:
  """Keeps the frames `times` of what `SegmentationEvaluator.predictions` yields.

  Raises:
    ValueError: the sequence ends before the last of `times`.
  """
  times = tuple(sorted({int(t) for t in times}))
  kept = []
  for i, entry in enumerate(predictions):
    if i in times:
      kept.append(entry)
    if len(kept) == len(times):
      break
  if len(kept) < len(times) or not times:
    raise ValueError(f"{name}: no frames {times[len(kept):] or 'asked for'}")
  return Strip(name, times, *zip(*kept, strict=True))


def overlay(frame: np.ndarray, labels: np.ndarray, *, strength: float = 0.55) -> np.ndarray:
  """uint8 [H, W, 3]: the frame, objects in the colours of DAVIS with a white outline."""
  labels = np.where(labels == metrics.VOID, 0, labels)
  if labels.shape != frame.shape[:2]:
    raise ValueError(f"labels {labels.shape} should have the size of the frame {frame.shape[:2]}")
  share = np.where(labels > 0, strength, 0.0)[..., None]
  # The background pales, so that a dark object in dark surroundings stands out.
  mixed = (1 - share) * frame + share * palette()[labels]
  mixed = np.where(labels[..., None] > 0, mixed, 0.75 * mixed + 0.25 * mixed.mean())
  outline = np.zeros(labels.shape, bool)
  for k in np.unique(labels[labels > 0]):
    outline |= metrics.dilate(metrics.boundary(labels == k), max(1, min(labels.shape) // 240))
  mixed[outline] = 255
  return mixed.round().astype(np.uint8)


def masks_figure(strips: Sequence[Strip], *, title: str | None = None,
                 note: str | None = None) -> Figure:
  """Two rows a sequence, the truth above the prediction; a column a time.

  Args:
    strips: one or more, with equally many frames.
    title, note: over the whole; the default says what is seen.

  Returns:
    A figure; `figures.save` writes it.
  """
  if not strips or len({len(s.times) for s in strips}) != 1:
    raise ValueError("a figure of masks needs at least one strip, and as many frames in each")
  columns, cell, left, top, gap, head = len(strips[0].times), 2.5, 1.0, 0.85, 0.05, 0.34
  heights = [cell * s.frames[0].shape[0] / s.frames[0].shape[1] for s in strips]
  width = left + columns * (cell + gap) + 0.15
  height = top + sum(2 * (h + gap) + head for h in heights) + 0.1
  figure = Figure(figsize=(width, height), facecolor="white")

  def text(x, y, words, **kwargs):
    style = dict(color=INK, size=9, ha="left", va="center") | kwargs
    figure.text(x / width, 1 - y / height, words, **style)

  text(0.15, 0.28, title or "How well are the first frame's masks carried on?", size=15,
       weight="bold")
  text(0.15, 0.58, note or "Frame 0 is given. J: overlap of predicted and true mask, mean over "
       "objects; 1 is perfect.", size=9.5, color=FAINT)
  y = top
  for s, h in zip(strips, heights, strict=True):
    text(0.15, y + head / 2, s.name, size=11, weight="bold")
    for row, (what, masks) in enumerate([("truth", s.truth), ("predicted", s.predicted)]):
      at = y + head + row * (h + gap)
      text(left - 0.12, at + h / 2, what, ha="right", color=FAINT)
      for i, (frame, labels) in enumerate(zip(s.frames, masks, strict=True)):
        x = left + i * (cell + gap)
        axes = figure.add_axes((x / width, 1 - (at + h) / height, cell / width, h / height))
        axes.imshow(overlay(frame, labels), aspect="auto", interpolation="antialiased")
        axes.set_axis_off()
        if row == 0:
          text(x + cell / 2, y + head / 2, _caption(s, i), ha="center", color=FAINT)
    y += head + 2 * (h + gap)
  return figure


def _caption(s: Strip, i: int) -> str:
  if s.times[i] == 0:
    return "frame 0, given"
  truth = np.where(s.truth[i] == metrics.VOID, 0, s.truth[i])
  objects = range(1, max(int(truth.max()), int(s.predicted[i].max()), 1) + 1)
  j = np.mean([metrics.region(truth == k, s.predicted[i] == k) for k in objects])
  return f"frame {s.times[i]}, J {j:.2f}"
