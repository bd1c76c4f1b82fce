"""The evaluations of a representation, each with what it shows in a table.

An evaluation of labelled videos is a function `(train, test, key, args) -> Result`, where train and
test are what `Described.of` gives.
"""

import dataclasses
import types
from typing import Any

import numpy as np

from data_pipelines.augment import corruption
from experiments import registry
from vssl_jax.evaluators import labelled, uncertainty
from vssl_jax.evaluators.labelled import Labelled
from vssl_jax.metrics import classification
from vssl_jax.ops import gaussian, nearest
from vssl_jax.types import ConfigError


@dataclasses.dataclass(frozen=True)
class Result:
  """What one evaluation found in one row.

  Attributes:
    numbers: all of them; shares in percent.
    shown: head of a column -> number, of these.
    items: column -> video or track -> percent, of which the columns are means.
    report: the evaluator's own.
  """

  numbers: dict[str, float]
  shown: dict[str, float]
  items: dict[str, dict[str, float]]
  report: Any


MEANING = {
    "classification": "top-k: percentage of the test videos whose class is among the k likeliest, "
                      "by the mean over a video's views of the classifier's softmax.",
    "knn": "k-NN: percentage of the test views whose class wins the vote of the k nearest training "
           "views, weighted by their cosine.",
    "linear": "linear: percentage of the test videos that a linear classifier of the frozen "
              "features takes for what they are, trained by SGD; of the last epoch.",
    "logistic": "linear: percentage of the test videos that a linear classifier of the frozen "
                "features takes for what they are, fitted to its optimum.",
    "class_retrieval": "R@k: percentage of the test videos (or views) with one of their class "
                       "among the k nearest training videos.",
    "instance_retrieval": "R@k: percentage of the test views with another view of their own video "
                          "among the k nearest views.",
    "tracking": "Success: area under the curve of tracks' frames by the overlap that is asked for; "
                "precision: frames with the centre within 20 pixels. AO: mean overlap, SR: frames "
                "above an overlap.",
    "uncertainty": "R@1: percentage of the test videos whose nearest training video is of their "
                   "class; R@1 B.: likewise, nearest by Bhattacharyya's distance of the videos' "
                   "distributions; risk: area under the risk-coverage curve of R@1, in percent of "
                   "that of a random order, below 100 where uncertain videos are those that fail; "
                   "risk by distance: likewise, videos far from all training videos taken for "
                   "uncertain; own risk: by variance again, of clips whose nearest clip is of "
                   "another video; noise, blur: 100 times Spearman's rank correlation of the "
                   "variance that clips are given and the strength of what was done to them, mean "
                   "over videos.",
}


def check(name: str, key: str, args) -> None:
  """Raises ConfigError where an evaluation can't be made, before anything is read."""
  if name not in MEANING:
    raise ConfigError(f"{key}.name={name!r}{registry.nearest(name, MEANING)}")
  try:
    if name == "classification":
      _check_known(name, key, args, [])
    elif name == "uncertainty":
      _check_uncertainty(args)
    elif name == "instance_retrieval":
      _check_known(name, key, args, ["ks"])
      labelled.check_counts("ks", tuple(args.get("ks", (1,))))
    elif name == "tracking":
      track = types.SimpleNamespace(id="a", truth={"boxes": np.ones((2, 4))})
      registry.make("vssl_jax.evaluators", name, f"{key}.name", [track], None, **args)
    elif name in LABELLED:
      some = Labelled(np.eye(2, dtype=np.float32), np.array([0, 1]), np.array(["a", "b"]))
      registry.make("vssl_jax.evaluators", name, f"{key}.name", some, some, **args)
  except (ConfigError, TypeError, ValueError) as e:
    told = str(e).removeprefix(f"{name}: ")
    raise ConfigError(told if key in told else f"{key}.args: {told}") from e


def _check_known(name: str, key: str, args, known: list[str]) -> None:
  for argument in set(args) - set(known):
    raise ConfigError(f"{key}.name={name!r} takes no {argument!r}"
                      + (registry.nearest(argument, known) if known else ""))


def _check_uncertainty(args) -> None:
  some = uncertainty.Row(np.array([0, 1]), *3 * [np.eye(2)])
  uncertainty.report(some, some, **_report_args(args) | {  # mixtures take seconds to compile
      "measures": [x for x in args.get("measures", ()) if x not in uncertainty.OF_CLIPS]})
  for kind, strengths in args.get("corruptions", {}).items():
    if 0 not in strengths:
      raise ConfigError(f"corruptions.{kind}={tuple(strengths)} should have 0 among them: what is "
                        "left as it is, to compare with")
    for strength in strengths:
      corruption.corrupt(np.zeros((1, 8, 8, 3), np.uint8), kind, strength,
                         np.random.default_rng(0))
    uncertainty.by_strength(kind, dict.fromkeys(map(float, strengths), some))
  if args.get("ks", uncertainty.KS)[0] != 1 or "cosine" not in (args.get("measures") or "cosine"):
    raise ConfigError("the table shows R@1 by the cosine; let ks begin with 1, and measures have "
                      "'cosine' among them or be empty for all")


def by_votes(train, test, key: str, args) -> Result:
  """Nearest neighbours."""
  (rows, _), (queries, _) = train, test
  report = registry.make("vssl_jax.evaluators", "knn", key, rows, queries, **args).report()
  queries = queries.by_video() if args.get("by_video") else queries
  k = args["ks"][0] if "ks" in args else min(report.scores)
  items = _items(report.scores[k].argmax(1) == queries.labels, queries.videos)
  return _result(report.numbers, {f"{k}-NN": items}, report)


def by_classifier(rows: Labelled, out) -> Result:
  """A classifier's own logits, `out["logits"]` [N, C]; NaN for a row of the table without any."""
  if "logits" not in out:
    return Result({}, {"top-1": np.nan, "top-5": np.nan}, {}, None)
  confidence, labels = classification.video_confidence(out["logits"], rows.videos, rows.labels)
  videos, ranks = np.array(list(dict.fromkeys(rows.videos.tolist()))), classification.ranks(
      confidence, labels)
  each = classification.per_class(ranks == 0, labels)
  numbers = {"top1": np.mean(ranks < 1), "top5": np.mean(ranks < 5),
             "mean_class": np.mean(list(each.values())),
             "views_top1": classification.accuracy(out["logits"], rows.labels, (1,))[1]}
  items = {f"top-{k}": _items(ranks < k, videos) for k in (1, 5)}
  return _result({k: float(v) for k, v in numbers.items()}, items, confidence)


def by_probe(name: str):
  """A linear classifier: `name` is that of the evaluator."""
  def measure(train, test, key, args):
    (rows, _), (queries, _) = train, test
    report = registry.make("vssl_jax.evaluators", name, key, rows, queries, **args).report()
    scores = queries.features @ report.weight + report.bias
    confidence, labels = classification.video_confidence(scores, queries.videos, queries.labels)
    names = list(dict.fromkeys(queries.videos.tolist()))
    items = dict(zip(names, (100.0 * (confidence.argmax(1) == labels)).tolist(), strict=True))
    numbers = report.history[-1] if name == "logistic" else report.numbers
    return _result(numbers, {"linear": items}, report)
  return measure


def by_rank(train, test, key: str, args) -> Result:
  """Retrieval by class."""
  (rows, _), (queries, _) = train, test
  report = registry.make("vssl_jax.evaluators", "class_retrieval", key, rows, queries,
                         **args).report()
  shown = {f"R@{k}": _items(hits, report.test.videos) for k, hits in list(report.hits.items())[:2]}
  return _result(report.numbers, shown, report)


def by_instance(test, args) -> Result:
  """Views that find the other views of their video among those of all.

  Args:
    args: `ks`, the numbers of neighbours.
  """
  rows, _ = test
  ks, view = tuple(args.get("ks", (1, 5))), np.arange(len(rows))
  labelled.check_counts("ks", ks)
  _, index = nearest.nearest(rows.features, rows.features, min(max(ks), len(rows) - 1),
                             queries_of=view, bank_of=view)
  hits = classification.hit_rate(rows.labels[index], rows.labels, ks)
  items = {f"R@{k}": _items(row, rows.videos) for k, row in zip(ks, hits, strict=True)}
  return _result({f"R@{k}": float(row.mean()) for k, row in zip(ks, hits, strict=True)}, items,
                 index)


LABELLED = {"knn": by_votes, "linear": by_probe("linear"), "logistic": by_probe("logistic"),
            "class_retrieval": by_rank}


def distributions(part) -> uncertainty.Row:
  """Labelled videos, each the mixture of its views, of what `Described.of` gives."""
  rows, out = part
  first = np.flatnonzero(np.r_[True, rows.videos[1:] != rows.videos[:-1]])
  found = {"video": rows.features.reshape(len(first), -1, rows.features.shape[1]).mean(1)}
  if "logvar" in out:
    mean, logvar = (out[k].reshape(len(first), -1, out[k].shape[-1]) for k in ("mean", "logvar"))
    of_video = (np.asarray(x) for x in gaussian.moment_match(mean, logvar))
    found |= {"clip_mean": mean, "clip_logvar": logvar} | dict(zip(
        ("mean", "logvar"), of_video, strict=True))
  return uncertainty.Row.of(found, rows.labels[first])


@dataclasses.dataclass(frozen=True)
class Uncertain:
  """What the evaluator of uncertainty found: its report, and one of each corruption."""

  report: uncertainty.Report
  strengths: tuple[uncertainty.Strengths, ...]


def by_uncertainty(train: uncertainty.Row, test: uncertainty.Row, videos: list[str],
                   worse: dict[str, dict[float, uncertainty.Row]], args) -> Result:
  """Retrieval and what uncertainty says of it.

  Args:
    videos: ids of the test videos.
    worse: corruption -> strength -> the test videos after it; {} for a method without variances.
  """
  known = uncertainty.measures_of(test, train)  # of those asked for, what this row has
  report = uncertainty.report(test, train, **_report_args(args) | {
      "measures": [name for name in args.get("measures") or known if name in known]})
  kind = args.get("kind", "geometric")
  strengths = tuple(uncertainty.by_strength(name, rows, train, kind=kind)
                    for name, rows in worse.items())
  numbers = dict(report.numbers)
  for x in strengths:
    numbers |= x.numbers
  numbers = {k: 100 * v if k.rpartition("/")[2].startswith("R@") or "/R@" in k else v
             for k, v in numbers.items()}
  columns = {{"cosine": "R@1", "bhattacharyya": "R@1 B."}[name]: 100.0 * hits[0]
             for name, hits in report.hits.items() if name in ("cosine", "bhattacharyya")}
  items = {head: dict(zip(videos, x.tolist(), strict=True)) for head, x in columns.items()}
  shown = {"R@1": float(np.mean(columns["R@1"])),
           "R@1 B.": float(np.mean(columns.get("R@1 B.", np.nan))),
           "risk": 100 * numbers.get("cosine/aurc_ratio", np.nan),
           "risk by distance": 100 * numbers["cosine/distance/aurc_ratio"],
           "own risk": 100 * numbers.get("clips/aurc_ratio", np.nan)}
  shown |= {name: 100 * numbers.get(f"{name}/clips/within", np.nan)
            for name in args.get("corruptions", {})}
  clear = {x.name: dict(zip(videos, (100 * x.within(x.clips)).tolist(), strict=True))
           for x in strengths if x.clips is not None}
  return Result(numbers, shown, {"R@1": items["R@1"], **clear}, Uncertain(report, strengths))


def _report_args(args) -> dict:
  return {k: v for k, v in args.items() if k != "corruptions"}


TRACKING = {"otb": ("success", "precision"), "got10k": ("AO", "SR0.5")}  # columns


def no_tracks(benchmark: str) -> Result:
  """The result of a row that can't track."""
  return Result({}, dict.fromkeys(TRACKING[benchmark], np.nan), {}, None)


def of_tracks(report) -> Result:
  """The result of a tracking evaluation."""
  shown = {head: {name: 100 * row[head] for name, row in report.table.items()}
           for head in TRACKING[report.benchmark]}
  return _result(report.numbers, shown, report)


def _items(hits: np.ndarray, videos: np.ndarray) -> dict[str, float]:
  """Video -> percentage of its rows that are hits."""
  first, means = classification.mean_by_group(np.asarray(hits, float)[:, None], videos)
  return dict(zip(videos[first].tolist(), (100 * means[:, 0]).tolist(), strict=True))


def _result(numbers: dict[str, float], items: dict[str, dict[str, float]], report) -> Result:
  plain = ("epoch", "lr", "loss", "iterations", "tracks")
  return Result({k: v if k.rpartition("/")[2] in plain else 100 * v for k, v in numbers.items()},
                {head: float(np.mean(list(column.values()))) for head, column in items.items()},
                items, report)
