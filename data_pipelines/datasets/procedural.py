"""The embedded data set: a near-duplicate retrieval benchmark drawn from a seed.

The videos are drawn once (see `render.families` for what they show), written as H.264 files into a
folder under the cache folder, and used from there. The folder is named by a hash of all that the
pixels depend on. Files appear in it whole or not at all and the index comes last, so a run that was
stopped is taken up where it ended, and a finished folder is used at once.

`read` gives its videos as examples with class labels, `make` as a retrieval set.

Beside every video that wasn't edited lies its ground truth, an .npz file (`truth_path`,
`render.load_truth`): label maps, key points, boxes and classes per frame. `facts` says what each
video is.
"""

import dataclasses
import hashlib
import inspect
import itertools
import json
import pathlib

import numpy as np

from data_pipelines.datasets import layout
from data_pipelines.encode import write_atomic
from data_pipelines.errors import DataError
from data_pipelines.records import Dataset, Record, RetrievalData
from data_pipelines.render import APPEARANCES, MOTIONS, load_truth
from data_pipelines.render.draw import draw, truth_path, video_path
from data_pipelines.render.families import MAX_QUERIES, Benchmark, Fact, Settings, plan
from data_pipelines.render.truth import take_truth

__all__ = ["PREPARED", "SPLITS", "Fact", "facts", "make", "read", "truth_path"]

RENDER_VERSION = 3  # part of the folder's name; a change of any pixel or plan needs a new one
INDEX = "index.json"
SPLITS = {name: {} for name in ("all", "train", "background", "unlabelled", "eval", "queries",
                                "database")}
PREPARED = ("all",)
_SPLITS_OF = {"train": ("train", "unlabelled"), "copy": ("train", "unlabelled"),
              "background": ("background", "unlabelled"),
              "query": ("eval", "queries")}  # by kind; all others are in the database
_CLASSES = {"motion": MOTIONS, "appearance": tuple(a.name for a in APPEARANCES)}
_NOTE = (
  "Synthetic videos drawn from a seed, in the form of FIVR-200K; the numbers compare methods and "
  "settings on this set only and say nothing about real videos. Training and evaluation share the "
  "pool of filler shots, and no scene."
)

_SHOTS = (
  "Synthetic scenes drawn from a seed; training and evaluation share none. The numbers compare "
  "methods and settings on this set only and say nothing about real videos."
)


def read(root: str, split: str = "all", *, allow_missing: bool = False, label: str = "motion",
         truth: bool = False, shots: bool = False, **settings) -> Dataset:
  """Draws the benchmark, or finds it in `root`, and gives its videos with class labels.

  Training videos and their copies are "train", unrelated ones "background", all of these
  "unlabelled"; "queries" and "database" together are "eval". Motions and appearances recur over all
  splits; no pair of both that a query has occurs in training.

  Args:
    root: `cache_dir` of `make`.
    split: one of `SPLITS`.
    allow_missing: changes nothing; what is missing is drawn.
    label: "motion" or "appearance": which class of the main object `label` and `text` give.
    truth: of videos that weren't edited, read "boxes" [T, 4], "points" [T, P, 2] and "visible"
      [T, P] of the main object; see `Record.truth`.
    shots: give the longest shot of the incident of each video that wasn't edited, as a record of
      its own, with `truth` over its frames and "labels" uint8 [T, H, W] too, of the objects seen
      at first: sequences to follow them through. Left out are those in which a point of the main
      object is unseen at first.
    settings: the other arguments of `make`.

  Raises:
    DataError: no such split or label, or `root` can't be written to.
    ValueError: a setting is out of range.
  """
  layout.check_split("procedural", split, SPLITS)
  if settings.get("plain") and label == "appearance":
    raise DataError("procedural: with plain=True everything looks alike; use label=motion")
  if label not in _CLASSES:
    raise DataError(f"procedural: label is one of {', '.join(_CLASSES)}, not {label!r}")
  data = make(cache_dir=root, **settings)
  records, fps = [], settings.get("fps", inspect.signature(make).parameters["fps"].default)
  for id_, fact in sorted(facts(data).items()):
    splits = _SPLITS_OF.get(fact.kind, ("eval", "database"))
    if split in ("all", *splits):
      path, number = data.videos[id_].video, getattr(fact, label)
      record = Record(id_, path, label=number, text=_CLASSES[label][number], splits=splits,
                      truth=_main_object(path) if truth and not shots else {})
      records += _longest_shot(record, fps) if shots else [record]
  return Dataset("procedural", split, records, _CLASSES[label], note=_SHOTS if shots else data.note)


def _longest_shot(record: Record, fps: float) -> list[Record]:
  """[the longest shot of a video's scenes], or [] where there is nothing to follow."""
  if not truth_path(record.video).is_file():
    return []  # edited: pixels and times no longer match
  known = load_truth(truth_path(record.video))
  numbers = np.flatnonzero(known.shot == max(
      set(known.shot[known.stock < 0].tolist()), key=lambda k: np.count_nonzero(known.shot == k)))
  part = take_truth(known, slice(int(numbers[0]), int(numbers[-1]) + 1))
  if not part.visible[0, 0].all() or len(numbers) < 3:
    return []
  return [dataclasses.replace(
      record, start=numbers[0] / fps, end=(numbers[-1] + 1) / fps,
      truth=_of_main_object(part) | {"labels": _numbered_anew(part.labels)})]


def _numbered_anew(labels):
  """Label maps of the objects that are seen at first, the others being ground."""
  seen = np.unique(labels[0])
  numbers = np.zeros(256, np.uint8)
  numbers[seen[seen > 0]] = np.arange(1, 1 + np.count_nonzero(seen))
  return numbers[labels]


def _main_object(path):
  if not truth_path(path).is_file():
    return {}  # edited: pixels and times no longer match
  return _of_main_object(load_truth(truth_path(path)))


def _of_main_object(known):
  boxes = known.boxes[:, 0].copy()
  boxes[boxes[:, 2] == 0] = np.nan
  return {"boxes": boxes, "points": known.points[:, 0], "visible": known.visible[:, 0]}


def make(
  *,
  cache_dir: str,
  seed: int = 0,
  size: int = 128,
  fps: int = 8,
  seconds: tuple[float, float] = (8.0, 14.0),
  n_train_families: int = 100,
  n_train_edits: int = 2,
  n_background: int = 300,
  n_queries: int = 24,
  n_per_label: tuple[int, int, int, int] = (2, 3, 2, 2),
  n_distractors: int = 100,
  difficulty: float = 1.0,
  flicker: float = 0.0,
  plain: bool = False,
  processes: int | None = None,
  progress: bool = True,
  labels: bool = True,
  n_edits: int = 2,
) -> RetrievalData:
  """Draws the benchmark, or finds it in the cache.

  Args:
    cache_dir: the folder for drawn data, made where it doesn't exist.
    seed: of everything, >= 0; the same arguments give the same files, byte for byte, on one
      machine, whatever the number of processes.
    size: height and width of a frame in pixels (before edits, which may change it), >= 16.
    fps: frames per second.
    seconds: least and largest length of a video, about.
    n_train_families: training videos that have copies.
    n_train_edits: copies of each.
    n_background: unrelated training videos.
    n_queries: evaluation queries, at most `MAX_QUERIES`.
    n_per_label: relevant videos per query: ND, DS, CS, IS.
    n_distractors: evaluation videos that are relevant to nothing.
    difficulty: 0 to about 2; scales the share of filler (0.3 to 0.6 of a video at 1) and how much
      distractors resemble queries.
    flicker: how much exposure and white balance change from frame to frame, the standard deviation
      of the logarithm of each channel's gain; 0 for not at all.
    plain: the same object before the same ground in all scenes, so that nothing but motion (and
      viewpoint, light, noise) tells them apart; classes of appearance then mean nothing.
    processes: worker processes; None for one per core, 1 to draw in this process.
    progress: show a progress bar while drawing.
    labels: train with the families' copies. Without, training sees one video of each family and
      the background as a pool of unrelated videos, and its pairs are strongly edited copies
      (`Record.edit_strength`) of the same one. The evaluation stays the same.
    n_edits: without labels, such copies of each video of the pool, at least 1.

  Returns:
    The data set. The database doesn't contain the queries.

  Raises:
    DataError: `cache_dir` can't be written to.
    ValueError: an argument is out of range.
  """
  settings = Settings(
    seed, size, fps, tuple(map(float, seconds)), n_train_families, n_train_edits, n_background,
    n_queries, tuple(n_per_label), n_distractors, float(difficulty), float(flicker),
    bool(plain),
  )  # fmt: skip
  _check(settings, n_edits)
  folder = pathlib.Path(cache_dir).expanduser().absolute() / f"procedural-{_digest(settings)}"
  benchmark = plan(settings)
  if not _complete(folder):
    try:
      folder.mkdir(parents=True, exist_ok=True)
      _delete_wrong(folder)
      draw(folder, settings, processes, progress)
      _write_index(folder, settings, benchmark)
    except (DataError, OSError) as error:
      raise DataError(
        f"data.cache_dir={cache_dir}: {error}. Free some space there or set data.cache_dir to "
        "another folder."
      ) from error
  data = _data(folder, benchmark)
  return data if labels else _without_labels(data, benchmark, seed, n_edits)


def facts(data: RetrievalData) -> dict[str, Fact]:
  """What each video of a set that `make` returned is: id -> kind, classes, scene, filler share."""
  folder = pathlib.Path(next(iter(data.videos.values())).video).parent
  index = _read_index(folder)
  if index is None:
    raise DataError(f"{folder / INDEX} is missing or damaged; make the data set again")
  names = [field.name for field in dataclasses.fields(Fact)]
  return {id_: Fact(**{n: entry[n] for n in names}) for id_, entry in index["videos"].items()}


def _check(settings, n_edits):
  low, high = settings.seconds
  fine = settings.seed >= 0 and settings.size >= 16 and settings.fps >= 1
  if not (fine and 0 < low <= high and settings.difficulty >= 0):
    raise ValueError(
      "seed and difficulty must be at least 0, size at least 16, fps at least 1, and seconds two "
      f"positive numbers in order, not {settings}"
    )
  if settings.flicker < 0:
    raise ValueError(f"flicker must be at least 0, not {settings.flicker}")
  if n_edits < 1:
    raise ValueError(f"n_edits must be at least 1, not {n_edits}")
  if settings.n_queries > MAX_QUERIES:
    raise ValueError(f"n_queries must be at most {MAX_QUERIES}, not {settings.n_queries}")


def _digest(settings):
  values = dataclasses.asdict(settings)
  for name in ("flicker", "plain"):  # what was drawn before there was this setting stays valid
    if not values[name]:
      del values[name]
  text = json.dumps([RENDER_VERSION, values], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read_index(folder):
  try:
    return json.loads((folder / INDEX).read_text())
  except (OSError, ValueError):  # not there yet, or damaged: it is written again
    return None


def _wrong(folder, index):
  """Names of files that are missing or not of the size that the index says."""
  paths = {name: folder / name for name in index["files"]}
  sizes = {name: path.stat().st_size if path.is_file() else -1 for name, path in paths.items()}
  return [name for name, entry in index["files"].items() if sizes[name] != entry["bytes"]]


def _complete(folder):
  index = _read_index(folder)
  return index is not None and not _wrong(folder, index)


def _delete_wrong(folder):
  index = _read_index(folder)
  for name in _wrong(folder, index) if index else []:
    (folder / name).unlink(missing_ok=True)


def _write_index(folder, settings, benchmark):
  files = {}
  for path in sorted((*folder.glob("*.mp4"), *folder.glob("*.npz"))):
    content = path.read_bytes()
    files[path.name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
  index = {
    "version": RENDER_VERSION,
    "settings": dataclasses.asdict(settings),
    "videos": {id_: dataclasses.asdict(fact) for id_, fact in benchmark.facts.items()},
    "pairs": benchmark.pairs,
    "annotation": benchmark.annotation,
    "files": files,
  }
  write_atomic(folder / INDEX, json.dumps(index, indent=1).encode())


def _data(folder: pathlib.Path, benchmark: Benchmark) -> RetrievalData:
  by_kind = {}
  for id_, fact in benchmark.facts.items():
    by_kind.setdefault(fact.kind, []).append(id_)
  training = {"train", "copy"}
  return RetrievalData(
    name="procedural",
    videos={id_: Record(id_, str(video_path(folder, id_))) for id_ in benchmark.facts},
    pairs=benchmark.pairs,
    background=by_kind.get("background", []),
    groups={i: fact.family for i, fact in benchmark.facts.items() if fact.kind in training},
    queries=by_kind.get("query", []),
    database=[i for kind in ("ND", "DS", "CS", "IS", "distractor") for i in by_kind.get(kind, [])],
    annotation=benchmark.annotation,
    note=_NOTE,
  )


def _without_labels(data: RetrievalData, benchmark: Benchmark, seed: int,
                    n_edits: int) -> RetrievalData:
  """The same evaluation, with edited copies for training instead of the families'."""
  pool = [id_ for id_, fact in benchmark.facts.items() if fact.kind in ("train", "background")]
  seeds = np.random.default_rng([seed, 60]).integers(1 << 31, size=(n_edits, len(pool)))
  copies = {id_: [Record(f"{id_}#edit{k}", data.videos[id_].video, edit_seed=int(s),
                         edit_strength="strong") for k, s in enumerate(row, start=1)]
            for id_, row in zip(pool, seeds.T, strict=True)}  # fmt: skip
  families = {id_: [id_, *(copy.id for copy in copies[id_])] for id_ in pool}
  return dataclasses.replace(
    data,
    videos=data.videos | {copy.id: copy for row in copies.values() for copy in row},
    pairs=[pair for ids in families.values() for pair in itertools.combinations(ids, 2)],
    background=pool,
    groups={id_: number for number, ids in enumerate(families.values()) for id_ in ids},
    note=f"{data.note} Training saw no labels: its pairs are edited copies of one video.",
  )
