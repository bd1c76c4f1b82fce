"""What uncertainty tells: accuracy by its level, risk against coverage, and what raises it."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from vssl_jax.evaluators.figures import FAINT, INK
from vssl_jax.evaluators.figures_curves import LINES
from vssl_jax.evaluators.uncertainty import Report, Strengths
from vssl_jax.types import ConfigError


def failures_figure(reports: Mapping[str, Report], *, measure: str = "cosine",
                    title: str | None = None) -> Figure:
  """Left, R@k by level of uncertainty; right, the risk among the most certain queries.

  Args:
    reports: row -> report with distributions; the last one, which it is about, is drawn strongest.
    measure: by which videos were ranked.
    title: over the whole; default says what is seen.

  Raises:
    ConfigError: a report has no uncertainty, or not this measure.
  """
  if not reports:
    raise ConfigError("there is no report to draw")
  for row, report in reports.items():
    if measure not in report.curves:
      raise ConfigError(f"{row}: no uncertainty for measure {measure!r}; there is "
                        f"{', '.join(report.curves) or 'none'}")
  page, (left, right) = _page(2)
  k = next(iter(reports.values())).ks[0]
  for i, (row, report) in enumerate(reversed(reports.items())):
    style = _style(i) | {"label": row}
    recall, area = report.levels[measure]["recall"], report.areas[measure]
    left.plot(np.arange(1, len(recall) + 1), recall, marker=LINES[i % len(LINES)][2], **style)
    coverage, risk = report.curves[measure]
    right.plot(coverage, risk, **style)
    if i == 0:
      hit = report.hits[measure][0]
      failed = np.sort(1 - hit.astype(np.float64))
      best = np.cumsum(failed) / np.arange(1, len(hit) + 1)
      right.plot(coverage, best, color=FAINT, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
      right.axhline(area["random"], color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
      right.text(1, area["random"], "any order ", color=FAINT, fontsize=9, ha="right", va="bottom")
      right.text(1, 0.02, "best order ", color=FAINT, fontsize=9, ha="right", va="bottom")
  left.set_title("Accuracy by level of uncertainty", loc="left", fontsize=12, fontweight="bold",
                 color=INK)
  left.set(ylim=(0, 1), xlabel="level: most certain first, as many queries each",
           ylabel=f"R@{k}")
  right.set_title("Risk and coverage", loc="left", fontsize=12, fontweight="bold", color=INK)
  right.set(xlim=(0, 1), ylim=(0, 1), xlabel="share of queries answered, the most certain first",
            ylabel="share of these that fail")
  shares = ", ".join(f"{row} {report.numbers[f'{measure}/aurc_ratio']:.2f}"
                     for row, report in reports.items())
  _head(page, left, title or "Does it know where it fails?",
        f"Area under the curve of risk, of that of an order without meaning: {shares}.")
  return page


def training_figure(steps: Sequence[int], u: Sequence[float], recall: Sequence[float], *,
                    title: str | None = None) -> Figure:
  """Left, mean uncertainty over training; right, R@1 (spec 11.5 a).

  Args:
    steps: of the evaluations, two or more.
    u: mean uncertainty of the queries at each.
    recall: R@1 in percent at each.

  Raises:
    ConfigError: fewer than two evaluations.
  """
  if len(steps) < 2:
    raise ConfigError(f"{len(steps)} evaluations: a course of training takes two or more")
  page, panels = _page(2)
  for panel, values, name in zip(panels, (u, recall), ("Mean uncertainty", "R@1, percent"),
                                 strict=True):
    panel.plot(steps, values, marker=LINES[0][2], label=name, **_style(0))
    panel.set_title(name, loc="left", fontsize=12, fontweight="bold", color=INK)
    panel.set(xlabel="step")
  if min(u) >= 0:  # an entropy may be below, and has no zero to be compared with
    panels[0].set_ylim(bottom=0)
  panels[1].set_ylim(0, 100)
  page.subplots_adjust(top=0.78)
  left, high = panels[0].get_position().x0, page.get_figheight()
  page.text(left, 1 - 0.3 / high, title or "Uncertainty over training", size=15, weight="bold",
            color=INK, va="center")
  page.text(left, 1 - 0.6 / high, "Weak evidence where the loss itself lowers the variances.",
            size=10, color=FAINT, va="center")
  return page


def strengths_figure(found: Mapping[str, Sequence[Strengths]], *,
                     units: Mapping[str, str] | None = None, title: str | None = None) -> Figure:
  """Uncertainty against what was done to the clips: one panel a corruption, one line a row.

  Of what the clips have on their own, where that is known. Lines are medians over videos, relative
  to each video's own uncertainty without corruption: its share of that, or, where one isn't above 0
  (an entropy), the difference from it, in all panels alike. Bands hold half of the videos. Above a
  panel stands the rank correlation of the last row, mean over videos.

  Args:
    found: row -> corruptions, the same ones in every row.
    units: name of a corruption -> the unit of its strength.
    title: over the whole; default says what is seen.

  Raises:
    ConfigError: there is nothing to draw, or rows have different corruptions.
  """
  names = {row: tuple(s.name for s in each) for row, each in found.items()}
  if not names or not next(iter(names.values())) or len(set(names.values())) > 1:
    raise ConfigError(f"rows should have the same corruptions, at least one: {names}")
  count = len(next(iter(names.values())))
  page, panels = _page(count)
  drawn = {row: [s.u if s.clips is None else s.clips for s in each] for row, each in found.items()}
  shares = all((u > 0).all() for each in drawn.values() for u in each)
  for i, (row, each) in enumerate(reversed(found.items())):
    for panel, s, u in zip(panels, each, drawn[row], strict=True):
      relative = u / u[0] if shares else u - u[0]
      low, middle, high = np.percentile(relative, (25, 50, 75), axis=1)
      style = _style(i)
      panel.plot(s.strengths, middle, marker=LINES[i % len(LINES)][2], label=row, **style)
      panel.fill_between(s.strengths, low, high, color=style["color"], alpha=0.15, linewidth=0)
  last, each = list(found.items())[-1]
  for panel, s in zip(panels, each, strict=True):
    unit = (units or {}).get(s.name)
    within = s.numbers[f"{s.name}/{'' if s.clips is None else 'clips/'}within"]
    panel.set_title(f"rank correlation {within:.2f} ({last})", loc="right", fontsize=9, color=FAINT)
    panel.set_title(s.name, loc="left", fontsize=12, fontweight="bold", color=INK)
    panel.set(xlabel=f"strength{f' ({unit})' if unit else ''}")
  panels[0].set_ylabel(f"uncertainty, {'of' if shares else 'less'} that without")
  _head(page, panels[0], title or "Are worse clips less certain?",
        "Median over videos; bands hold half of them.")
  return page


def _page(count: int):
  page = Figure(figsize=(0.9 + 4.6 * max(count, 2), 4.9), facecolor="white")
  panels = page.subplots(1, count, squeeze=False)[0]
  page.subplots_adjust(left=0.75 / page.get_figwidth(), right=0.98, bottom=0.12, top=0.73,
                       wspace=0.2)
  for panel in panels:
    panel.grid(color="#e6e8eb", linewidth=0.8)
    panel.tick_params(colors=FAINT, labelsize=9)
    panel.xaxis.label.set_color(FAINT)
    panel.yaxis.label.set_color(FAINT)
    panel.spines[["top", "right"]].set_visible(False)
  return page, panels


def _style(i: int) -> dict:
  """Of the i-th line from the last."""
  colour, dash, _ = LINES[i % len(LINES)]
  return {"color": colour, "linestyle": dash, "markersize": 4,
          "linewidth": 2.4 if i == 0 else 1.6, "zorder": 3 if i == 0 else 2}


def _head(page: Figure, panel, title: str, caption: str) -> None:
  """Title, caption and legend above the panels."""
  left, high = panel.get_position().x0, page.get_figheight()
  page.text(left, 1 - 0.3 / high, title, size=15, weight="bold", color=INK, va="center")
  page.text(left, 1 - 0.6 / high, caption, size=10, color=FAINT, va="center")
  handles, labels = panel.get_legend_handles_labels()
  page.legend(handles[::-1], labels[::-1], loc="center left", ncols=len(labels), frameon=False,
              bbox_to_anchor=(left - 0.01, 1 - 0.92 / high), fontsize=10, handlelength=3.2)
