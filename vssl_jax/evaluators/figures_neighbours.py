"""A picture of retrieval by class: some test videos, and the training videos nearest to them."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from vssl_jax.evaluators.class_retrieval import Report
from vssl_jax.evaluators.figures import FAINT, INK, QUERY, RIGHT, WRONG

QUERIES, SHOWN = 6, 6
Thumbnails = Callable[[Iterable[str]], Mapping[str, np.ndarray]]


def spread(report: Report, count: int) -> np.ndarray:
  """Rows of the report from the best to the worst, by how many of the first neighbours are right.

  Evenly spread over that order: no choice of the good ones.
  """
  right = (report.train.labels[report.index[:, :SHOWN]] == report.test.labels[:, None]).mean(1)
  order = np.argsort(-right, kind="stable")
  at = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
  return order[at]


def neighbours_figure(report: Report, thumbnails: Thumbnails, *, title: str = "",
                      classes: Sequence[str] = (), queries: int = QUERIES) -> Figure:
  """A row a query: its frame, and those of the nearest training videos, framed by right or wrong.

  Args:
    report: with known videos.
    thumbnails: ids of videos -> a frame uint8 [H, W, 3] of each.
    title: over the whole.
    classes: names by number; () for numbers.
    queries: how many, from the best to the worst.

  Raises:
    ValueError: the videos aren't known.
  """
  if report.test.videos is None or report.train.videos is None:
    raise ValueError("a figure of neighbours needs the videos' ids")
  rows = spread(report, queries)
  columns = min(SHOWN, report.index.shape[1])
  names = {str(i) for i in report.test.videos[rows]} | {
      str(i) for i in report.train.videos[report.index[rows, :columns]].ravel()}
  frames = thumbnails(names)
  cell, top, left = 1.15, 0.75, 0.2
  width, height = left + (columns + 1) * cell + 0.4, top + len(rows) * (cell + 0.22) + 0.1
  figure = Figure(figsize=(width, height), facecolor="white")

  def text(x, y, words, **style):
    figure.text(x / width, 1 - y / height, words,
                **(dict(color=INK, size=7, ha="left", va="center") | style))

  def draw(x, y, name, label, colour):
    axes = figure.add_axes((x / width, 1 - (y + cell) / height, 0.94 * cell / width,
                            0.94 * cell / height), xticks=[], yticks=[])
    axes.imshow(frames[str(name)])
    for side in axes.spines.values():
      side.set(color=colour, linewidth=2.5)
    text(x, y + cell + 0.1, classes[label] if len(classes) else str(label), color=FAINT)

  text(left, 0.25, title or "Nearest training videos", size=12, weight="bold")
  text(left, 0.52, "Left a test video, then the nearest training videos; green: of its class, red: "
       "of another. Queries from the best to the worst.", color=FAINT)
  for i, row in enumerate(rows):
    y = top + i * (cell + 0.22)
    label = int(report.test.labels[row])
    draw(left, y, report.test.videos[row], label, QUERY)
    for j, column in enumerate(report.index[row, :columns]):
      found = int(report.train.labels[column])
      draw(left + 0.2 + (j + 1) * cell, y, report.train.videos[column], found,
           RIGHT if found == label else WRONG)
  return figure
