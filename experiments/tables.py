"""Tables of several evaluations, and how rows compare."""

import math
import numbers
from collections.abc import Mapping
from typing import Any

from vssl_jax.metrics import intervals

# Evaluation -> head of a column -> number, or what is written as its `str`.
Cells = Mapping[str, Mapping[str, Any]]


def lines(rows: Mapping[str, Cells], unit: str = "%") -> list[str]:
  """A line for each row below two of heads, a group of columns for each evaluation.

  A NaN, of what a row doesn't have, is a dash.
  """
  first = next(iter(rows.values()))
  wide = max(len(name) for name in [unit, *rows])
  width = {name: max(9, 2 + max(map(len, group)), -(-len(name) // len(group)) + 1,
                     *(2 + len(_cell(x)) for row in rows.values() for x in row[name].values()))
           for name, group in first.items()}

  def line(label: str, groups: list[str]) -> str:
    return f"{label:<{wide}} {' |'.join(groups)}".rstrip()

  return [line("", [f"{name:>{width[name] * len(group)}}" for name, group in first.items()]),
          line(unit, ["".join(f"{head:>{width[name]}}" for head in group)
                      for name, group in first.items()]),
          *(line(label, ["".join(f"{_cell(x):>{width[name]}}" for x in group.values())
                         for name, group in cells.items()]) for label, cells in rows.items())]


def _cell(x) -> str:
  if not isinstance(x, numbers.Real):
    return str(x)
  return "-" if math.isnan(x) else f"{x:.1f}"


def gains(rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
  """The last row against each before it, a sentence each.

  Args:
    rows: label -> column -> item -> value; the same items in all that have a column.
  """
  (name, last), found = list(rows.items())[-1], []
  for base, row in list(rows.items())[:-1]:
    parts = []
    for column, items in last.items():
      if column not in row:  # what a row doesn't have
        continue
      mean, low, high = intervals.difference(items, row[column])
      parts.append(f"{column} {mean:+.1f} (95 %: {low:+.1f} to {high:+.1f})")
    if parts:
      found.append(f"{name} against {base}: {', '.join(parts)}.")
  return found


def check_equal(live: Mapping[str, float], exported: Mapping[str, float],
                tolerance: float = 0.1) -> str:
  """How equal two rows' numbers are, in words; RuntimeError where they differ by more."""
  off = {k: abs(live[k] - exported[k]) for k in live
         if k in exported and not abs(live[k] - exported[k]) <= tolerance}
  if live.keys() != exported.keys() or off:
    raise RuntimeError("the export differs from the model: "
                       f"{off or sorted(live.keys() ^ exported.keys())}")
  worst = max(abs(live[k] - exported[k]) for k in live)
  return "the same numbers" if not worst else f"the same numbers to within {worst:.0e}"
