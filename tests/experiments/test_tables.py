"""Tables of several evaluations: what is written where, and how rows compare."""

import numpy as np
import pytest

from experiments import tables
from vssl_jax.metrics import intervals

NAN = float("nan")
ROWS = {"pixels": {"retrieval": {"R@1": 12.34, "R@5": 100.0}, "n": {"linear": 5.0}},
        "trained": {"retrieval": {"R@1": NAN, "R@5": 0.04}, "n": {"linear": 99.96}}}


def cells(line, wide):
  """Label and cells of a line."""
  return [line[:wide].rstrip(), *line[wide:].replace("|", " ").split()]


def test_cells_stand_below_their_heads():
  top, heads, *rows = tables.lines(ROWS)
  wide = len("trained")
  assert cells(top, wide) == ["", "retrieval", "n"]
  assert cells(heads, wide) == ["%", "R@1", "R@5", "linear"]
  assert [cells(row, wide) for row in rows] == [
      ["pixels", "12.3", "100.0", "5.0"], ["trained", "-", "0.0", "100.0"]]
  ends = [heads.index(head) + len(head) for head in ("R@1", "R@5", "linear")]
  for row, numbers in zip(rows, [("12.3", "100.0", "5.0"), ("-", "0.0", "100.0")], strict=True):
    assert [row[:end].split()[-1] for end in ends] == list(numbers)
    assert all(row[end:end + 1] in ("", " ") for end in ends)
  bar = heads.index("|")
  assert all(row[bar] == "|" for row in (top, *rows))


def test_names_of_any_length_leave_cells_apart():
  long = "an evaluation whose name is far wider than its one column"
  rows = {"a row of many words": {long: {"x": 1.0}, "b": {"a head of many words": -2.0, "y": 3.0}}}
  top, heads, row = tables.lines(rows, unit="a unit that is wider than any of the rows' names")
  wide = len("a unit that is wider than any of the rows' names")
  assert long in top and top.index(long) + len(long) < top.index("|")
  assert heads[:wide] == "a unit that is wider than any of the rows' names"
  assert cells(row, wide) == ["a row of many words", "1.0", "-2.0", "3.0"]
  assert "a head of many words" in heads and heads.index("|") == row.index("|") == top.index("|")
  assert row.index("-2.0") + 4 == heads.index("a head of many words") + len("a head of many words")
  assert all(line == line.rstrip() for line in (top, heads, row))


def test_cells_of_text_are_as_wide_as_they_need():
  rows = {"x": {"a": {"R@1": 1.0, "all": "12.3 ± 0.4"}}, "y": {"a": {"R@1": 2.0, "all": "-"}}}
  _, heads, first, second = tables.lines(rows)
  assert [line.split() for line in (first, second)] == [["x", "1.0", "12.3", "±", "0.4"],
                                                        ["y", "2.0", "-"]]
  assert len({len(line) for line in (heads, first, second)}) == 1
  assert first.index("1.0") == second.index("2.0")


def test_gains_are_of_the_last_row_against_each():
  items = [f"v{i}" for i in range(40)]
  hits = np.random.default_rng(0).integers(0, 2, (3, 40)) * 100.0
  rows = {name: {"R@1/a": dict(zip(items, row.tolist(), strict=True)),
                 "S/b": {"t": 10.0 * k}}
          for k, (name, row) in enumerate(zip(("base", "first", "last"), hits, strict=True))}
  told = tables.gains(rows)
  assert [line.partition(":")[0] for line in told] == ["last against base", "last against first"]
  for line, base in zip(told, ("base", "first"), strict=True):
    mean, low, high = intervals.difference(rows["last"]["R@1/a"], rows[base]["R@1/a"])
    assert np.isclose(mean, np.mean([rows["last"]["R@1/a"][i] - rows[base]["R@1/a"][i]
                                     for i in items]))
    assert f"R@1/a {mean:+.1f} (95 %: {low:+.1f} to {high:+.1f})" in line
    assert line.endswith(".")
  assert "S/b +20.0 (95 %: +20.0 to +20.0)" in told[0]
  assert tables.gains({"alone": rows["last"]}) == []
  with pytest.raises(ValueError, match="not the same queries"):
    tables.gains({"x": {"R@1/a": {"v0": 1.0}}, "y": {"R@1/a": {"v1": 1.0}}})


def test_equal_rows_and_others():
  row = {"a": 50.0, "b": 7.0}
  assert tables.check_equal(row, dict(row)) == "the same numbers"
  assert tables.check_equal(row, row | {"b": 7.05}) == "the same numbers to within 5e-02"
  with pytest.raises(RuntimeError, match=r"differs from the model: .*'b'"):
    tables.check_equal(row, row | {"b": 7.11})
  assert "within" in tables.check_equal(row, row | {"b": 8.0}, tolerance=1.5)
  for other in ({"a": 50.0}, row | {"c": 1.0}):
    with pytest.raises(RuntimeError, match="differs"):
      tables.check_equal(row, other)
  with pytest.raises(RuntimeError, match="'a'"):
    tables.check_equal(row, row | {"a": NAN})
