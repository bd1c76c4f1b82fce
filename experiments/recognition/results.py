"""What a run of representation learning leaves to read: the table, pictures, results.json."""

import dataclasses
import pathlib
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np

from experiments import tables
from experiments.recognition import data, measures, splits
from experiments.recognition.measures import Result
from vssl_jax.evaluators import figures_neighbours, figures_uncertainty


@dataclasses.dataclass(frozen=True)
class Reports:
  """What one row of the table found.

  Attributes:
    by_eval: name in `evals` -> result of that evaluation.
    features: of the views that were described for them, as of `Described.features`.
    groups: what some of the evaluations are together, as of `splits.groups`.
  """

  by_eval: dict[str, Result]
  features: dict[str, np.ndarray]
  groups: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

  @property
  def numbers(self) -> dict[str, float]:
    """"top1/NAME" and so on; shares in percent."""
    return {f"{key}/{name}": value for name, result in self.by_eval.items()
            for key, value in result.numbers.items()}

  @property
  def per_item(self) -> dict[str, dict[str, float]]:
    """"R@1/NAME" -> video -> percent."""
    return {f"{head}/{name}": items for name, result in self.by_eval.items()
            for head, items in result.items.items()}

  @property
  def over_splits(self) -> dict[str, splits.Spread]:
    """"top1/NAME" and so on, of evaluations on several splits of a data set."""
    return {f"{key}/{stem}": spread for stem, names in self.groups.items()
            for key, spread in splits.over(self.by_eval[n].numbers for n in names).items()}

  @property
  def shown(self) -> dict[str, dict[str, float | splits.Spread]]:
    """Cells of the table, in groups."""
    together = {f"{stem}, {len(names)} splits": splits.over(self.by_eval[n].shown for n in names)
                for stem, names in self.groups.items()}
    return {name: r.shown for name, r in self.by_eval.items()} | together


def table(task, reports: Mapping[str, Reports]) -> str:
  """Rows of the evaluations' first numbers, what they mean, and what they are of."""
  rows = {label: row.shown for label, row in reports.items()}
  return "\n".join([*tables.lines(rows), "", *_explain(task, reports)])


def _explain(task, reports: Mapping[str, Reports]) -> list[str]:
  c, lines = task.config, []
  for about in dict.fromkeys(e.about for e in task.evaluations.values()):
    names = [name for name, e in task.evaluations.items() if e.about == about]
    lines.append(f"{', '.join(names)}: {about}.")
  for name, evaluation in task.evaluations.items():
    if evaluation.bad:
      lines.append(f"{len(evaluation.bad)} videos of {name} could not be read and are left out.")
  if task.missing:
    lines.append(f"{len(task.missing)} videos that the data sets list are missing.")
  lines += dict.fromkeys(d.note for e in task.evaluations.values() for d in e.datasets if d.note)
  lines += [f"{name}: left out, {why}." for name, why in task.skipped.items()]
  lines += dict.fromkeys(measures.MEANING[c.evals[name].name] for name in task.evaluations)
  for stem, names in next(iter(reports.values())).groups.items():
    lines.append(f"{stem}, {len(names)} splits: mean of {', '.join(names)}, ± their standard "
                 "deviation.")
  lines += tables.gains({label: _main_columns(row) for label, row in reports.items()})
  lines.append(_trained(task.trained, task.facts))
  if getattr(task, "dropped", 0):
    lines.append(f"{task.dropped} training videos could not be read and were left out.")
  return [textwrap.fill(line, 98) for line in lines]


def _trained(c: Mapping, facts: Mapping) -> str:
  """What numbers of different runs have to have in common to be compared (provico spec 11.3).

  Args:
    c: the run's config.
    facts: as of `clip_runs.Training`; {} of an older run.
  """
  method, views, train = c["method"], c["views"], c["train"]
  given = {"image": "pictures", "clip": f"clips of {views.get('frames')} frames"}
  start = method["weights"] or "random weights"
  if facts.get("start"):
    start += f" ({facts['start']})"
  return (f"Backbone {method['args']['backbone']} of width {method['args']['width']}, global "
          f"average pooling, trained from {start} on the data set {c['data']['name']!r}: "
          f"{train['steps']} steps of {train['batch']} videos"
          f"{_epochs(train, facts.get('videos', 0))}, {given[data.INPUTS[views['name']]]} of "
          f"{views['size']} x {views['size']} pixels, seed {c['seed']}.")


def _epochs(train: Mapping, videos: int) -> str:
  """How often each video was seen; "" where their number isn't known."""
  if not videos:
    return ""
  epochs = train["steps"] * train["batch"] / videos
  shown = f"{epochs:.3g}" if epochs < 100 else f"{epochs:.0f}"
  return f" ({shown} epoch{'s' * (shown != '1')} of {videos})"


def _main_columns(row: Reports) -> dict[str, dict[str, float]]:
  """Of each evaluation the first column that is shown, as far as it is a mean over items."""
  return {f"{head}/{name}": items for name, result in row.by_eval.items()
          for head, items in list(result.items.items())[:1]}


def figures(task, reports: Mapping[str, Reports], rows: Mapping) -> tuple[dict, list[str]]:
  """Pictures of what the last row's features take for alike.

  Returns:
    file name -> figure; and for each that doesn't apply a sentence that says why.
  """
  del rows
  (label, last), pages, skipped = list(reports.items())[-1], {}, []
  for name, result in last.by_eval.items():
    if task.config.evals[name].name == "class_retrieval":
      evaluation = task.evaluations[name]
      pages[f"{name}.png"] = figures_neighbours.neighbours_figure(
          result.report, evaluation.thumbnails, title=f"{label}: nearest training videos",
          classes=evaluation.datasets[0].classes)
    elif task.config.evals[name].name == "uncertainty" and result.report.report.u is not None:
      known = {other: row.by_eval[name].report for other, row in reports.items()
               if row.by_eval[name].report.report.u is not None}
      pages[f"{name}.png"] = figures_uncertainty.failures_figure(
          {other: found.report for other, found in known.items()})
      if result.report.strengths:
        pages[f"{name}_corruption.png"] = figures_uncertainty.strengths_figure(
            {other: found.strengths for other, found in known.items()},
            units={"noise": "levels of 255", "blur": "pixels"})
      if (course := _course(task, name, result)) is None:
        continue
      if len(course) > 1:
        pages[f"{name}_training.png"] = figures_uncertainty.training_figure(
            *zip(*course, strict=True))
      else:
        skipped.append(f"No {name}_training.png: train.eval_every is 0, so uncertainty was not "
                       "measured on the way.")
  return pages, skipped


def _course(task, name: str, result: Result) -> list[tuple[int, float, float]] | None:
  """Step, uncertainty and R@1 of a run's evaluations, the last one `result`; None for another's."""
  if task.logged is None:
    return None
  keys = [("uncertainty", f"eval/uncertainty/{name}"), ("cosine/R@1", f"eval/cosine/R@1/{name}")]
  course = [(row["step"], *(row[logged] for _, logged in keys)) for row in task.logged
            if keys[0][1] in row]
  return [*course, (task.config.train.steps, *(result.numbers[key] for key, _ in keys))]


def files(task, reports: Mapping[str, Reports], folder: pathlib.Path) -> list[pathlib.Path]:
  """Folders of predictions that are there: tracks in the GOT-10k toolkit's layout."""
  del reports
  return [folder / name for name in task.evaluations if (folder / name).is_dir()]


def check_equal(live: Reports, exported: Reports) -> str:
  """How equal they are, in words; RuntimeError where the export gives other features or tracks.

  Neighbours that are equally near may change places, and a tracker may then go another way: it is
  the features that are compared, and the mean of tracks only roughly.
  """
  both = live.features.keys() & exported.features.keys()  # a file may have failed to be read once
  if live.features and not both:
    raise RuntimeError("the export differs from the model: they describe no view in common")
  largest = max([1e-12, *(np.abs(live.features[k]).max() for k in both)])
  worst = float(np.max([np.abs(live.features[k] - exported.features[k]).max() / largest
                        for k in both], initial=0.0))
  off = {f"{head}/{name}": _apart(value, exported.by_eval[name].shown[head])
         for name, result in live.by_eval.items() for head, value in result.shown.items()}
  if not worst <= 1e-3 or not max(off.values()) <= 5:
    raise RuntimeError("the export differs from the model: features by up to "
                       f"{worst:.1e} of the largest, numbers by {off}")
  return (f"the same features to within {worst:.0e} of the largest, the same numbers to within "
          f"{max(off.values()):.1g}")


def _apart(a: float, b: float) -> float:
  """How far apart; what neither has is equal, and what one of them has is not."""
  return float(np.nan_to_num(abs(a - b), nan=np.inf)) if not np.isnan([a, b]).all() else 0.0


def numbers(report: Reports) -> dict:
  """A row of results.json."""
  spreads = {key: dataclasses.asdict(x) for key, x in report.over_splits.items()}
  return {**report.numbers, **({"over_splits": spreads} if spreads else {}),
          "per_item": report.per_item}
