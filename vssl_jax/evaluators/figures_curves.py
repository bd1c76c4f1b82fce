"""Precision against recall, averaged over queries: one panel a task, one line a row."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from vssl_jax.evaluators.figures import FAINT, INK

# Okabe and Ito's colours, which colour-blind readers can tell apart; lines differ in dash too.
LINES = (("#0072B2", "-", "o"), ("#E69F00", "--", "s"), ("#009E73", "-.", "^"),
         ("#CC79A7", ":", "D"), ("#56B4E9", (0, (5, 1, 1, 1, 1, 1)), "v"))


def curves_figure(curves: Mapping[str, Mapping[str, np.ndarray]], *, similarity: str = "",
                  title: str | None = None) -> Figure:
  """Interpolated precision-recall curves; the last row, the one that is about, is drawn strongest.

  Args:
    curves: row -> task -> precision [P] at recall linspace(0, 1, P). Panels are the tasks of the
      first row.
    similarity: by which videos were ranked, for the caption.
    title: over the whole; default says what is seen.

  Raises:
    ValueError: there is no curve.
  """
  tasks = list(next(iter(curves.values()), {}))
  if not tasks:
    raise ValueError("there is no curve to draw")
  page = Figure(figsize=(0.9 + 3.9 * max(len(tasks), 2), 4.9), facecolor="white")
  panels = page.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
  page.subplots_adjust(left=0.75 / page.get_figwidth(), right=0.98, bottom=0.12, top=0.73,
                       wspace=0.08)
  for panel, task in zip(panels, tasks, strict=True):
    for i, (row, by_task) in enumerate(reversed(curves.items())):
      colour, dash, marker = LINES[i % len(LINES)]
      y = by_task[task]
      panel.plot(np.linspace(0, 1, len(y)), y, color=colour, linestyle=dash, marker=marker,
                 markersize=4, markevery=max(1, (len(y) - 1) // 5), label=row,
                 linewidth=2.4 if i == 0 else 1.6, zorder=3 if i == 0 else 2, clip_on=False)
    panel.set_title(task, loc="left", fontsize=12, fontweight="bold", color=INK)
    panel.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall: share of the relevant videos found")
    panel.grid(color="#e6e8eb", linewidth=0.8)
    panel.tick_params(colors=FAINT, labelsize=9)
    panel.xaxis.label.set_color(FAINT)
    panel.spines[["top", "right"]].set_visible(False)
  panels[0].set_ylabel("precision: share that is relevant", color=FAINT)
  left, wide = panels[0].get_position().x0, page.get_figheight()
  page.text(left, 1 - 0.3 / wide, title or "How clean is the list when most matches are found?",
            size=15, weight="bold", color=INK, va="center")
  by = f" Ranked by {similarity.replace('_', ' ')}." if similarity else ""
  page.text(left, 1 - 0.6 / wide, "Mean over queries; the higher the line, the fewer wrong videos "
            f"stand before the relevant ones.{by}", size=10, color=FAINT, va="center")
  handles, labels = panels[0].get_legend_handles_labels()
  page.legend(handles[::-1], labels[::-1], loc="center left", ncols=len(labels), frameon=False,
              bbox_to_anchor=(left - 0.01, 1 - 0.92 / wide), fontsize=10, handlelength=3.2)
  return page
