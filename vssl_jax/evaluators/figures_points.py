"""Predicted and true points over some frames of a few videos."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

INK, FAINT = "#22262b", "#6b7280"


@dataclasses.dataclass(frozen=True)
class Strip:
  """Some frames of one video.

  Attributes:
    name: of the video.
    times: numbers of the frames.
    frames: uint8 [H, W, 3] each.
    truth, predicted: [J, 2] pixels (x, y) each; a lost point has x below 0.
  """

  name: str
  times: tuple[int, ...]
  frames: tuple[np.ndarray, ...]
  truth: tuple[np.ndarray, ...]
  predicted: tuple[np.ndarray, ...]


def strip(record: Any, frames: Iterable[np.ndarray], predicted: np.ndarray, count: int) -> Strip:
  """Evenly spread frames of a record, with its points and those predicted [T, J, 2]."""
  truth = np.asarray(record.truth["points"])
  times = np.unique(np.linspace(0, len(truth) - 1, count).round().astype(int))
  kept = [frame for i, frame in enumerate(frames) if i in times]
  return Strip(record.id, tuple(times.tolist()), tuple(kept), tuple(truth[times]),
               tuple(predicted[times]))


def points_figure(strips: Sequence[Strip], *, title: str | None = None,
                  note: str | None = None) -> Figure:
  """A row a video, a column a time: rings where points are, discs where they are predicted.

  Args:
    strips: one or more.
    title, note: over the whole; the default says what is seen.

  Returns:
    A figure; `figures.save` writes it.
  """
  if not strips:
    raise ValueError("a figure of points needs at least one strip")
  columns, cell, left, top, gap, head = max(len(s.times) for s in strips), 2.5, 0.15, 0.85, 0.05, .5
  heights = [cell * s.frames[0].shape[0] / s.frames[0].shape[1] for s in strips]
  width = left + columns * (cell + gap) + 0.1
  height = top + sum(heights) + len(strips) * head + 0.1
  figure = Figure(figsize=(width, height), facecolor="white")

  def text(x, y, words, **kwargs):
    style = dict(color=INK, size=9, ha="left", va="center") | kwargs
    figure.text(x / width, 1 - y / height, words, **style)

  text(0.15, 0.28, title or "How well are the first frame's points followed?", size=15,
       weight="bold")
  text(0.15, 0.58, note or "Frame 0 is given. Rings: truth; discs: prediction.", size=9.5,
       color=FAINT)
  y = top
  for s, h in zip(strips, heights, strict=True):
    text(0.15, y + 0.12, s.name, size=11, weight="bold")
    for i in range(len(s.times)):
      x = left + i * (cell + gap)
      text(x + cell / 2, y + 0.34, "frame 0, given" if s.times[i] == 0 else f"frame {s.times[i]}",
           ha="center", color=FAINT)
      axes = figure.add_axes((x / width, 1 - (y + head + h) / height, cell / width, h / height))
      _draw(axes, s.frames[i], s.truth[i], s.predicted[i])
    y += head + h
  return figure


def _draw(axes, frame: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> None:
  h, w = frame.shape[:2]
  axes.imshow(frame, aspect="auto", interpolation="antialiased")
  axes.set_axis_off()
  axes.set(xlim=(-0.5, w - 0.5), ylim=(h - 0.5, -0.5))
  colours = matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, len(truth)))
  axes.scatter(*truth.T, s=60, facecolors="none", edgecolors="white", linewidths=2.4)
  axes.scatter(*truth.T, s=60, facecolors="none", edgecolors=colours, linewidths=1.4)
  seen = predicted[:, 0] >= 0
  axes.scatter(*predicted[seen].T, s=22, c=colours[seen], edgecolors="white", linewidths=0.7)
