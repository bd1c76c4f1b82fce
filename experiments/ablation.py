"""Ablation tables: which runs they need, and what the runs' results say.

A config file's `sweep(name)` yields `Table`s. Each row is the config with some values changed, run
once for each seed; a table says which directions are expected, and each is tested.
"""

import copy
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments import cli, config_file
from experiments.registry import nearest
from vssl_jax.metrics.paired import difference
from vssl_jax.types import ConfigError


@dataclasses.dataclass(frozen=True)
class Table:
  """One table of a sweep.

  Attributes:
    name: short, for --sweep.
    title: what is varied.
    rows: name -> values by dotted key ("method.args.loss"); {} is the config as it is.
    expected: directions such as ("transformer", ">", "gru"), between rows.
    by: "row", or "similarity": there is one row, and its similarities are what is compared.
    similarity: by which rows are compared where directions are tested: the part of a column's
      name after "/"; "" for all columns.
    note: a sentence below the table, for example where the directions come from.
    mean: name of one more row, the mean of all these and their standard deviation, for rows that
      are splits of a data set; "" for none.
    numbers: head of one more column -> which of a run's numbers it shows, as results.json has it;
      they are no means over items, and not tested.
  """

  name: str
  title: str
  rows: Mapping[str, Mapping[str, Any]]
  expected: Sequence[tuple[str, str, str]] = ()
  by: str = "row"
  similarity: str = "cosine"
  note: str = ""
  mean: str = ""
  numbers: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if self.by not in ("row", "similarity") or (self.by == "similarity" and len(self.rows) != 1):
      raise ValueError(f"table {self.name!r}: by is 'row', or 'similarity' with one row")
    for a, sign, b in self.expected:
      unknown = {a, b}.difference(self.rows) if self.by == "row" else ()
      if sign not in (">", "<") or unknown:
        raise ValueError(f"table {self.name!r}: {a!r} {sign} {b!r} should relate two of its rows, "
                         f"{', '.join(self.rows)}, by > or <")


@dataclasses.dataclass(frozen=True)
class Run:
  """One training run: where, with which config, for which row (of the first table that has it)."""

  folder: pathlib.Path
  config: Any
  row: int
  name: str
  seed: int


@dataclasses.dataclass(frozen=True)
class Measured:
  """What a run found.

  Attributes:
    per_item: column ("task/similarity") -> item -> value.
    minutes: how long it took.
    numbers: the row of results.json that these are of.
  """

  per_item: Mapping[str, Mapping[str, float]]
  minutes: float
  numbers: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def pick(tables: list[Table], name: str) -> list[Table]:
  """For a config file's `sweep(name)`: the tables named, between commas, or all for "".

  Raises:
    ConfigError: there is no such table.
  """
  known = {t.name: t for t in tables}
  names = name.split(",") if name else list(known)
  for wrong in (n for n in names if n not in known):
    raise ConfigError(f"no such table{nearest(wrong, known)}")
  return [known[n] for n in dict.fromkeys(names)]


def change(config, values: Mapping[str, Any], where: str):
  """A locked copy of a config with values changed by dotted key; ConfigError names a wrong one."""
  changed = copy.deepcopy(config)
  for name, value in values.items():
    config_file.check_key(changed, name, f"{where}: {name}")
    *groups, key = name.split(".")
    node = changed
    for group in groups:
      node = node[group]
    try:
      node[key] = value
    except (TypeError, ValueError) as e:
      raise ConfigError(f"{where}: {name}={value!r}: {cli.one_line(e)}") from e
  return changed.lock()


def plan(config, tables: Iterable[Table], seeds: int,
         workdir: pathlib.Path) -> tuple[list[Run], dict]:
  """The runs that tables need, equal configs once, all rows of a seed before those of the next.

  A run's folder is named by a hash of its config, so that it is found again whatever tables are
  asked for.

  Returns:
    the runs; and (table, row) -> folders, one a seed.
  """
  runs, folders = {}, {}
  for number in range(seeds):
    rows = {}
    for table in tables:
      for row, values in table.rows.items():
        where = f"sweep {table.name!r}, row {row!r}"
        seed = config.seed + number
        run = change(config, {"seed": seed, **values}, where)
        folder = workdir / f"seed{run.seed}-{cli.digest(run)}"
        rows.setdefault(folder, len(rows) + 1)
        runs.setdefault(folder, Run(folder, run, rows[folder], f"{table.name}: {row}", run.seed))
        folders.setdefault((table.name, row), []).append(folder)
  return list(runs.values()), folders


def read(folder: pathlib.Path) -> Measured | None:
  """The results of a run's last row, the trained model's; None where it isn't finished."""
  file = folder / "results.json"
  if not file.is_file():
    return None
  try:
    found = json.loads(file.read_text())
    last = list(found["rows"].values())[-1]
    return Measured(last["per_item"], found["minutes"], last)
  except (ValueError, KeyError, IndexError) as e:
    raise ConfigError(f"{file} is damaged; delete {folder} to run it again") from e


def summarise(table: Table, results: Mapping[str, Mapping[int, Measured]]) -> dict:
  """A table's numbers, as they go into tables.json.

  Args:
    results: row -> seed -> what was measured, for the runs that are finished.

  Returns:
    dict: `rows`: name -> column -> {"mean", "std", "seeds"}, std being that of a sample of seeds,
    None for one seed, and in the row `table.mean` that of a sample of rows; a column of
    `table.numbers` is "plain"; `expected`: a list of tests; `minutes` of all runs; `name`, `title`,
    `note`.
  """
  measured = _by_similarity(table, results) if table.by == "similarity" else results
  rows = {}
  for name, by_seed in measured.items():
    columns = {}
    for column in next(iter(by_seed.values())).per_item if by_seed else ():
      columns[column] = _over_seeds({s: np.mean(list(m.per_item[column].values()))
                                     for s, m in by_seed.items()})
    for head, key in table.numbers.items():
      known = {s: x for s, m in by_seed.items() if (x := m.numbers.get(key)) is not None}
      if known:
        columns[head] = _over_seeds(known) | {"plain": True}
    rows[name] = columns
  if table.mean:
    rows[table.mean] = _mean([rows.get(name, {}) for name in table.rows])
  tests = [test for claim in table.expected for test in _test(table, claim, measured)]
  return {"name": table.name, "title": table.title, "note": table.note, "rows": rows,
          "expected": tests, "minutes": sum(m.minutes for r in results.values()
                                            for m in r.values())}


def _over_seeds(values: Mapping[int, float]) -> dict:
  found = [float(x) for x in values.values()]
  return {"mean": float(np.mean(found)), "seeds": sorted(values),
          "std": float(np.std(found, ddof=1)) if len(found) > 1 else None}


def _mean(rows: Sequence[dict]) -> dict:
  """The mean of rows in the columns that all have, std being that of a sample of rows."""
  found = {}
  for column in (c for c in rows[0] if all(c in row for row in rows)):
    means = [row[column]["mean"] for row in rows]
    seeds = set.intersection(*(set(row[column]["seeds"]) for row in rows))
    found[column] = {"mean": float(np.mean(means)), "seeds": sorted(seeds),
                     "std": float(np.std(means, ddof=1)) if len(means) > 1 else None}
  return found


def _by_similarity(table: Table, results) -> dict[str, dict[int, Measured]]:
  """The one row's similarities as rows of their own, and tasks as columns."""
  (row,), out = table.rows, {}
  for seed, found in results.get(row, {}).items():
    for column, values in found.per_item.items():
      task, _, name = column.partition("/")
      cell = out.setdefault(name, {}).setdefault(seed, Measured({}, found.minutes))
      cell.per_item[task] = values
  return out


def _test(table: Table, claim: tuple[str, str, str], measured) -> list[dict]:
  """One test a task: the difference that the claim is about, and whether it holds."""
  a, sign, b = claim
  better, worse = (a, b) if sign == ">" else (b, a)
  seeds = sorted(measured.get(better, {}).keys() & measured.get(worse, {}).keys())
  base = {"claim": f"{a} {sign} {b}"}
  if not seeds:
    return [base | {"verdict": "not measured"}]
  tests = []
  for column in measured[better][seeds[0]].per_item:
    if table.by == "row" and table.similarity not in ("", column.partition("/")[2]):
      continue
    x, y = ([measured[name][s].per_item[column] for s in seeds] for name in (better, worse))
    queries = sorted(set.intersection(*map(set, x + y)))
    if not queries:
      continue
    values = [np.array([[by_query[q] for q in queries] for by_query in part]) for part in (x, y)]
    mean, low, high = difference(*values)
    verdict = "holds" if low > 0 else "doesn't hold" if high < 0 else "within noise"
    tests.append(base | {"column": column, "difference": mean, "low": low, "high": high,
                         "seeds": len(seeds), "queries": len(queries), "verdict": verdict})
  return tests


def markdown(summary: dict) -> str:
  """A table's summary as Markdown: mean ± standard deviation, the best of a column in bold."""
  rows = summary["rows"]
  columns = list(dict.fromkeys(c for row in rows.values() for c in row))
  best = {c: max(row[c]["mean"] for row in rows.values() if c in row) for c in columns}
  heads = [c.replace("/", " ").replace("_", " ") for c in columns]
  lines = [f"## {summary['title']}", "", "| " + " | ".join(["", *heads, "seeds"]) + " |",
           "|---" * (len(columns) + 2) + "|"]
  for name, row in rows.items():
    cells = [_cell(row.get(c), best[c]) for c in columns]
    count = max((len(cell["seeds"]) for cell in row.values()), default=0)
    lines.append("| " + " | ".join([name, *cells, str(count)]) + " |")
  by_claim = {}
  for test in summary["expected"]:
    by_claim.setdefault(test["claim"], []).append(_told(test))
  if by_claim:
    lines += ["", "Expected (difference, 95% interval):", ""]
    lines += [f"- {claim}: {'; '.join(told)}" for claim, told in by_claim.items()]
  if summary["note"]:
    lines += ["", summary["note"]]
  return "\n".join([*lines, "", f"{summary['minutes']:.1f} minutes of runs."])


def _cell(cell: dict | None, best: float) -> str:
  if cell is None:
    return "-"
  digits = ".3g" if "plain" in cell else ".3f"
  text = f"{cell['mean']:{digits}}" + ("" if cell["std"] is None else f" ± {cell['std']:{digits}}")
  return f"**{text}**" if cell["mean"] == best and "plain" not in cell else text


def _told(test: dict) -> str:
  if "column" not in test:
    return test["verdict"]
  column = test["column"].replace("/", " ").replace("_", " ")
  return (f"{column} {test['verdict']} ({test['difference']:+.3f}, {test['low']:+.3f} to "
          f"{test['high']:+.3f})")
