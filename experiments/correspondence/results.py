"""What a correspondence run leaves to read: the table, pictures of masks and points, results.json.

Of each evaluation the table shows its first numbers; results.json has all of them, and those of
every object and video.
"""

import dataclasses
import pathlib
import textwrap
from collections.abc import Mapping

import numpy as np

from experiments import tables
from vssl_jax.evaluators import figures_points, figures_segmentation, propagation, segmentation

SHOWN = {"segmentation": ("J&F-Mean", "J-Mean", "F-Mean"), "keypoints": ("PCK@0.1", "PCK@0.2")}
HEADS = {"J&F-Mean": "J&F", "J-Mean": "J", "F-Mean": "F"}
MEANING = {
    "segmentation": "J is the overlap of predicted and true masks (intersection over union), F how "
                    "well their outlines agree, J&F the mean of both; means over objects, in "
                    "percent, measured as the official DAVIS-2017 tool does.",
    "keypoints": "PCK@a is the percentage of points within a body sizes of the truth, a body size "
                 "being 0.6 times the diagonal of the box around a frame's true points; lost "
                 "points are left out, as on JHMDB (results.json has the strict count too).",
}
PICTURES, TIMES = 3, 5  # sequences in a figure, and frames of each


@dataclasses.dataclass(frozen=True)
class Reports:
  """What one row of the table found: name in `evals` -> report of that evaluation."""

  by_eval: dict

  @property
  def numbers(self) -> dict[str, float]:
    """"J&F-Mean/NAME" and so on; in percent, but for counts and shares."""
    return {f"{key}/{name}": value for name, report in self.by_eval.items()
            for key, value in _percent(report).items()}

  @property
  def per_item(self) -> dict[str, dict[str, float]]:
    """"J&F-Mean/NAME" -> object -> percent; "PCK@0.2/NAME" -> video -> percent."""
    columns = {}
    for name, report in self.by_eval.items():
      columns |= {f"{key}/{name}": items for key, items in _items(report).items()}
    return columns


def kind(report) -> str:
  """The evaluator that a report is of."""
  return "segmentation" if isinstance(report, segmentation.Report) else "keypoints"


def _percent(report) -> dict[str, float]:
  if kind(report) == "keypoints":
    return report.numbers
  return {k: v if k == "objects" else 100 * v for k, v in report.numbers.items()}


def _items(report) -> dict[str, dict[str, float]]:
  if kind(report) == "segmentation":
    rows = {name: (100 * row["J"].mean, 100 * row["F"].mean) for name, row in report.table.items()}
    return {"J&F-Mean": {name: (j + f) / 2 for name, (j, f) in rows.items()},
            "J-Mean": {name: j for name, (j, _) in rows.items()},
            "F-Mean": {name: f for name, (_, f) in rows.items()}}
  return {f"PCK@{a:g}": {name: 100 * float(np.mean(video.distance[video.found] <= a))
                         if video.found.any() else 0.0 for name, video in report.videos.items()}
          for a in report.thresholds if f"PCK@{a:g}" in SHOWN["keypoints"]}


def table(task, reports: Mapping[str, Reports]) -> str:
  """Rows of the evaluations' first numbers, what they mean, and what they are of."""
  rows = {label: {name: {HEADS.get(k, k): _percent(r)[k] for k in SHOWN[kind(r)]}
                  for name, r in row.by_eval.items()} for label, row in reports.items()}
  return "\n".join([*tables.lines(rows), "", *_explain(task, reports)])


def _explain(task, reports: Mapping[str, Reports]) -> list[str]:
  c, last = task.config, list(reports.values())[-1]
  lines = ["What is known of the first frame is carried on, frame by frame."]
  for name, report in last.by_eval.items():
    found = task.datasets[name]
    if kind(report) == "keypoints":
      what = f"the points of {_count(len(report.videos), 'video')}"
    else:
      what = (f"{_count(int(report.numbers['objects']), 'object')} in "
              f"{_count(len(report.sequences), 'sequence')}")
    settings, about = c.evals[name], c.evals[name].get("about", "")  # runs of before have none
    lines.append(f"{name}: {what} of {found.name}, {found.split}, by the protocol "
                 f"{_protocol(settings.args.protocol, task.evaluators[name].protocol)}"
                 f"{about and '; '}{about}.")
    if found.missing:
      lines.append(f"{len(found.missing)} sequences of {found.name} are missing.")
  lines += dict.fromkeys(d.note for d in task.datasets.values() if d.note)
  lines += [f"{name}: left out, since evals.{name}.data.root is empty." for name in task.skipped]
  lines += [MEANING[k] for k in dict.fromkeys(map(kind, last.by_eval.values()))]
  lines += tables.gains({label: _main_columns(row) for label, row in reports.items()})
  lines.append(f"The run was trained on the data set {task.trained_on!r} (seed {c.seed})."
               if task.trained_on else f"Seed {c.seed}; trained on {c.data.name} for "
               f"{c.train.steps} steps of {c.train.batch} clips.")
  if getattr(task, "dropped", 0):
    lines.append(f"{task.dropped} training videos could not be read and were left out.")
  return [textwrap.fill(line, 98) for line in lines]


def _count(number: int, name: str) -> str:
  return f"{number} {name}{'s' * (number != 1)}"


def _protocol(name: str, used: propagation.Protocol) -> str:
  """Its name, and what is another way than by that name."""
  named = dataclasses.asdict(propagation.PROTOCOLS[name])
  other = {k: v for k, v in dataclasses.asdict(used).items() if v != named[k]}
  def told(value):
    return " ".join(map(str, value)) if isinstance(value, tuple) else value
  changes = ", ".join(f"{k} {'none' if v in (None, ()) else told(v)}" for k, v in other.items())
  return f"{name}{changes and f' ({changes})'}"


def _main_columns(row: Reports) -> dict[str, dict[str, float]]:
  """Of each evaluation the first column that is shown."""
  return {f"{SHOWN[kind(r)][0]}/{name}": row.per_item[f"{SHOWN[kind(r)][0]}/{name}"]
          for name, r in row.by_eval.items()}


def figures(task, reports: Mapping[str, Reports], rows: Mapping) -> tuple[dict, list[str]]:
  """Pictures of the last row's predictions.

  Returns:
    file name -> figure; and sentences on what doesn't apply, none here.
  """
  (label, last), embed = list(reports.items())[-1], list(rows.values())[-1]
  pages = {}
  for name, report in last.by_eval.items():
    evaluator = task.evaluators[name]
    records = {record.id: record for record in evaluator.records}
    if kind(report) == "segmentation":
      chosen = _spread({i: float(s.j.mean()) for i, s in report.sequences.items()})
      strips = []
      for i in chosen:
        times = np.linspace(0, report.sequences[i].j.shape[1] + 1, TIMES).round().astype(int)
        strips.append(figures_segmentation.strip(
            i, evaluator.predictions(records[i], embed), times))
      pages[f"{name}.png"] = figures_segmentation.masks_figure(
          _alike(strips), note=f"{label}; frame 0 is given. J: overlap of predicted and true mask, "
          "mean over objects; 1 is perfect. Sequences from the best to the worst.")
    else:
      chosen = _spread({i: -float(np.minimum(v.distance, 1).mean())
                        for i, v in report.videos.items()})
      pages[f"{name}.png"] = figures_points.points_figure([
          figures_points.strip(records[i], evaluator.read(records[i]), report.predicted[i], TIMES)
          for i in chosen], note=f"{label}; frame 0 is given. Rings: truth; discs: prediction. "
          "Videos from the best to the worst.")
  return pages, []


def _spread(values: Mapping[str, float]) -> list[str]:
  """Some names from the best to the worst, evenly spread."""
  names = sorted(values, key=lambda name: (-values[name], name))
  at = np.linspace(0, len(names) - 1, min(PICTURES, len(names))).round().astype(int)
  return [names[i] for i in at]


def _alike(strips: list) -> list:
  """Those with as many frames as the longest: a short sequence has fewer to show."""
  most = max(len(s.times) for s in strips)
  return [s for s in strips if len(s.times) == most]


def files(task, reports: Mapping[str, Reports], folder: pathlib.Path) -> list[pathlib.Path]:
  """Folders of predictions that are there: masks in DAVIS's layout, points as csv."""
  del reports
  return [folder / name for name in task.evaluators if (folder / name).is_dir()]


def check_equal(live: Reports, exported: Reports) -> str:
  """How equal they are, in words; raises where the export gives other numbers."""
  return tables.check_equal(live.numbers, exported.numbers)


def numbers(report: Reports) -> dict:
  """A row of results.json; of masks also what the official tool tells of each object."""
  objects = {name: {item: {f"{measure}-{key.capitalize()}": 100 * value
                           for measure, found in row.items()
                           for key, value in found._asdict().items()}
                    for item, row in r.table.items()}
             for name, r in report.by_eval.items() if kind(r) == "segmentation"}
  return {**report.numbers, "per_item": report.per_item, "per_object": objects}
