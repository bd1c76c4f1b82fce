"""One picture of a retrieval evaluation: where frames match, and what is ranked first."""

import dataclasses
import pathlib
import textwrap
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from vssl_jax.evaluators.retrieval import DISTRACTOR, Report

RIGHT, WRONG, QUERY, INK, FAINT = "#1b9e4b", "#d1495b", "#8a8f98", "#22262b", "#6b7280"

Thumbnail = Callable[[str], np.ndarray]  # id -> uint8 [H, W, 3]
Strip = Callable[[str], np.ndarray]  # id -> uint8 [T, H, W, 3]


def best_match(report: Report, name: str) -> tuple[str, str]:
  """The (query, true match) pair with the highest score under similarity `name`.

  Raises:
    ValueError: no query has a true match among the available videos.
  """
  best = None
  for query in report.queries:
    for video, score in report.ranked(query, name):
      if report.label(query, video) != DISTRACTOR:
        if best is None or score > best[0]:
          best = score, query, video
        break
  if best is None:
    raise ValueError("no query has a true match among the available videos")
  return best[1:]


def spread_queries(report: Report, name: str, count: int) -> list[str]:
  """Up to `count` queries from best to worst average precision, at even ranks: no cherry-picking.

  The precision is that of the task `report.shown` under similarity `name`.
  """
  per_query = report.results[name][report.shown].per_query
  order = sorted(per_query, key=lambda query: -per_query[query])
  at = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
  return [order[i] for i in at]


def retrieval_figure(reports: Mapping[str, Report], *, matrices: Mapping[str, np.ndarray],
                     pair: tuple[str, str], thumbnail: Thumbnail, strip: Strip,
                     similarity: str = "chamfer", queries: Sequence[str] | None = None,
                     top: int = 5, title: str | None = None) -> Figure:
  """Left, frame-to-frame similarity of one pair; right, the first `top` videos of some queries.

  Args:
    reports: name -> report; one or two, for example a baseline and a trained model. A query has a
      row for each.
    matrices: name -> [T, S] frame similarity of `pair` (`RetrievalEvaluator.frame_matrix`); one
      or two, drawn below each other on a common colour scale.
    pair: (query, true match): rows and columns of the matrices.
    thumbnail: id -> uint8 [H, W, 3].
    strip: id -> uint8 [n, H, W, 3], frames evenly spaced over the video, any number.
    similarity: which of the reports' similarities ranks.
    queries: which queries; default four from `spread_queries` of the last report.
    top: how many videos a row.
    title: over the whole; default says what is seen.

  Returns:
    A figure; `save` writes it.
  """
  if queries is None:
    queries = spread_queries(list(reports.values())[-1], similarity, 4)
  page = _Page(_heights(len(matrices), len(queries), len(reports)), top)
  page.text(0.3, 0.3, title or "Which videos show the same footage?", size=17, weight="bold")
  page.text(0.3, 0.62, "Left: how alike every frame of a query is to every frame of a true "
            "match; copied footage shows as a bright diagonal. "
            f"Right: the {top} videos ranked first; green is right, red is wrong.",
            size=10.5, color=FAINT)
  _draw_matrices(page, matrices, pair, strip)
  _draw_rankings(page, reports, similarity, queries, thumbnail, top)
  return page.figure


def save(figure: Figure, path: str | pathlib.Path, dpi: int = 130) -> None:
  """Writes the figure as PNG."""
  figure.savefig(path, dpi=dpi, format="png", facecolor="white")


# Sizes in inches, from the upper left corner.
_LEFT, _TOP, _MATRIX, _STRIP, _GAP = 0.3, 1.05, 3.6, 0.45, 0.08
_RANKS, _CELLS, _CELL, _IMAGE = 5.0, 2.9, 1.42, (1.32, 0.74)
_ROW, _HEAD = 1.06, 0.26


def _heights(matrices: int, queries: int, rows: int) -> tuple[float, float]:
  left = 0.3 + matrices * (_MATRIX + _STRIP + _GAP + 0.55) + 0.75
  return left, queries * (rows * _ROW + _HEAD) + 0.55


@dataclasses.dataclass
class _Page:
  """A figure that is drawn on in inches."""

  columns: tuple[float, float]  # heights of the two halves
  top: int

  def __post_init__(self):
    self.width = _RANKS + _CELLS + self.top * _CELL + 0.15
    self.height = _TOP + max(self.columns)
    self.figure = Figure(figsize=(self.width, self.height), facecolor="white")

  def axes(self, x: float, y: float, width: float, height: float):
    box = (x / self.width, 1 - (y + height) / self.height, width / self.width,
           height / self.height)
    return self.figure.add_axes(box)

  def text(self, x: float, y: float, words: str, **kwargs):
    style = {"color": INK, "size": 9, "ha": "left", "va": "center"} | kwargs
    self.figure.text(x / self.width, 1 - y / self.height, words, **style)

  def rule(self, x: float, y: float) -> None:
    """A faint line from x to the right margin."""
    ends = [x / self.width, 1 - 0.2 / self.width], [1 - y / self.height] * 2
    self.figure.add_artist(Line2D(*ends, color="#d9dce1", linewidth=0.8))

  def image(self, x: float, y: float, width: float, height: float, pixels: np.ndarray,
            frame: str | None = None, line: float = 3.0) -> None:
    """An image cropped to the box, with a coloured frame."""
    axes = self.axes(x, y, width, height)
    axes.imshow(_crop(pixels, width / height), aspect="auto", interpolation="antialiased")
    axes.set_axis_off()
    if frame:
      axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, edgecolor=frame,
                               linewidth=line, clip_on=False))


def _draw_matrices(page: _Page, matrices, pair, strip) -> None:
  """The pair's strips along the axes of each matrix, and one colour bar."""
  low = min(0.0, *(float(m.min()) for m in matrices.values()))
  x, y, count = _LEFT + 0.25 + _STRIP + _GAP, _TOP, round(_MATRIX / _STRIP)
  frames = [_spread(strip(name), count) for name in pair]
  page.text(_LEFT, y, "Frame-to-frame similarity", size=12, weight="bold")
  y += 0.3
  for name, matrix in matrices.items():
    page.text(x, y, name, size=10, weight="bold")
    y += 0.17
    for i in range(count):
      cell = _MATRIX / count
      page.image(x + i * cell, y, cell - 0.02, _STRIP, frames[1][i])
      page.image(x - _STRIP - _GAP, y + _STRIP + _GAP + i * cell, _STRIP, cell - 0.02, frames[0][i])
    axes = page.axes(x, y + _STRIP + _GAP, _MATRIX, _MATRIX)
    image = axes.imshow(matrix, aspect="auto", cmap="magma", vmin=low, vmax=1.0,
                        interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    page.text(x - _STRIP - _GAP - 0.12, y + _STRIP + _GAP + _MATRIX / 2,
              f"query {_short(pair[0])}, {matrix.shape[0]} frames", rotation=90, ha="center",
              color=FAINT)
    y += _STRIP + _GAP + _MATRIX + 0.13
    page.text(x + _MATRIX / 2, y, f"match {_short(pair[1])}, {matrix.shape[1]} frames",
              ha="center", color=FAINT)
    y += 0.25
  bar = page.figure.colorbar(image, cax=page.axes(x, y, _MATRIX, 0.12), orientation="horizontal")
  bar.outline.set_visible(False)
  bar.ax.tick_params(labelsize=8, length=2, colors=FAINT)
  page.text(x + _MATRIX / 2, y + 0.42, "cosine of frame descriptors (bright: the same content)",
            ha="center", color=FAINT)


def _draw_rankings(page: _Page, reports, similarity, queries, thumbnail, top) -> None:
  """For every query its image, and a row of ranked videos per report."""
  width, height = _IMAGE
  y = _TOP
  words = f"First {top} of {len(next(iter(reports.values())).database)} videos"
  page.text(_RANKS, y, f"{words} by {similarity.replace('_', ' ')}", size=12, weight="bold")
  legend = (("query", QUERY), ("true match", RIGHT), (DISTRACTOR, WRONG))
  for i, (word, colour) in enumerate(legend):
    page.text(page.width - 3.05 + (0, 0.78, 1.9)[i], y, f"■ {word}", color=colour, size=10)
  y += 0.3
  for i, query in enumerate(queries):
    if i:
      page.rule(_RANKS, y - _HEAD / 2 - 0.02)
    block = len(reports) * _ROW
    page.image(_RANKS, y + (block - height - 0.2) / 2, width, height, thumbnail(query), QUERY)
    page.text(_RANKS + width / 2, y + (block + height - 0.2) / 2 + 0.13, _short(query),
              ha="center", color=FAINT)
    for row, (name, report) in enumerate(reports.items()):
      _draw_row(page, y + row * _ROW, name, report, similarity, query, thumbnail, top)
    y += block + _HEAD


def _draw_row(page: _Page, y, name, report, similarity, query, thumbnail, top) -> None:
  width, height = _IMAGE
  task, result = report.shown, report.results[similarity][report.shown]
  x = _RANKS + width + 0.15
  value = result.per_query.get(query)
  page.text(x, y + height / 2 - 0.02, textwrap.fill(name, 15, max_lines=2, placeholder="…"),
            size=10, weight="bold", va="bottom")
  page.text(x, y + height / 2 + 0.1, f"{task} AP {value:.3f}" if value is not None else "no match",
            color=FAINT)
  for i, (video, score) in enumerate(report.ranked(query, similarity, top)):
    at = _RANKS + _CELLS + i * _CELL
    label = report.label(query, video)
    colour = WRONG if label == DISTRACTOR else RIGHT
    page.image(at, y, width, height, thumbnail(video), colour)
    page.text(at, y + height + 0.13, f"{i + 1}. {label}", color=colour, weight="bold")
    page.text(at + width, y + height + 0.13, f"{score:.3f}", ha="right")


def _crop(pixels: np.ndarray, ratio: float) -> np.ndarray:
  """The centre of [H, W, 3] with width / height = `ratio`."""
  h, w = pixels.shape[:2]
  wide, high = min(w, max(1, round(h * ratio))), min(h, max(1, round(w / ratio)))
  y, x = (h - high) // 2, (w - wide) // 2
  return pixels[y:y + high, x:x + wide]


def _spread(strip: np.ndarray, count: int) -> np.ndarray:
  """`count` frames at the middles of equal parts of the strip, repeated where it has fewer."""
  return strip[((np.arange(count) + 0.5) * len(strip) / count).astype(int)]


def _short(name: str, most: int = 22) -> str:
  return name if len(name) <= most else f"{name[:most - 9]}…{name[-8:]}"
