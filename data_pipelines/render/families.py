"""Plans a retrieval benchmark: which videos there are, what each shows, and who matches whom.

Every video has an incident (two or three shots of one scene from changing cameras and times) and
filler (stock shots from a small pool that recurs over all videos, in training and evaluation).
A mean over frames therefore says as much about the filler as about the incident.

Training is planned as in VCDB: families of a video and edited copies, some of which keep only a
part of the incident and set it into another video; and unrelated background videos. Evaluation is
planned as in FIVR-200K; with respect to its query a video is

- ND: the whole query, lightly edited;
- DS: shots of the query between other shots (new filler, a shot of another scene), strongly edited;
- CS: the query's scene at other times from other cameras, with other filler;
- IS: another scene of the query's appearance and motion classes, with other filler;
- a distractor: other classes (half of them the query's appearance), but the query's filler.

No scene, and no combination of appearance and motion class, is used both for a query and for
anything that isn't relevant to it; training uses combinations that evaluation doesn't.
"""

import dataclasses
import itertools
import json

import numpy as np

from data_pipelines.edits import USUAL
from data_pipelines.render.motion import CAMERAS, MOTIONS
from data_pipelines.render.scene import SceneSpec
from data_pipelines.render.stock import N_STOCK
from data_pipelines.render.texture import APPEARANCES
from data_pipelines.render.video import Shot, StockSpec, VideoPlan

MAX_QUERIES = len(APPEARANCES) * len(MOTIONS) // 2
_STOCK_SECONDS = 5.0
# Copies don't lose the shots that make them copies.
_STRONG = tuple(name for name in USUAL if name != "temporal_crop")
_LIGHT = ("drop_frames", "crop", "rescale", "border", "colour", "blur", "noise", "logo", "reencode")


@dataclasses.dataclass(frozen=True)
class Settings:
  """Size and difficulty of the benchmark; the arguments of `datasets.procedural.make`."""

  seed: int
  size: int
  fps: int
  seconds: tuple[float, float]
  n_train_families: int
  n_train_edits: int
  n_background: int
  n_queries: int
  n_per_label: tuple[int, int, int, int]
  n_distractors: int
  difficulty: float
  flicker: float = 0.0
  plain: bool = False

  @classmethod
  def from_json(cls, text: str) -> "Settings":
    """The inverse of `json.dumps(dataclasses.asdict(settings))`."""
    values = json.loads(text)
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@dataclasses.dataclass(frozen=True)
class Fact:
  """What a video is.

  Attributes:
    kind: "train", "copy", "background", "query", "ND", "DS", "CS", "IS" or "distractor".
    family: number of the training family or query that it belongs to, -1 for none.
    appearance, motion: classes of its incident (`APPEARANCES`, `MOTIONS`).
    scene: seed of its incident's scene.
    filler: share of its frames (before edits) that are stock shots.
  """

  kind: str
  family: int
  appearance: int
  motion: int
  scene: int
  filler: float


@dataclasses.dataclass
class Benchmark:
  """Plans in groups that share scenes; the other attributes as in `RetrievalData`."""

  groups: list[list[VideoPlan]] = dataclasses.field(default_factory=list)
  facts: dict[str, Fact] = dataclasses.field(default_factory=dict)
  pairs: list[tuple[str, str]] = dataclasses.field(default_factory=list)
  annotation: dict[str, dict[str, list[str]]] = dataclasses.field(default_factory=dict)

  def add(self, plan, kind, family, incident):
    """Files a plan in the last group and notes what it is."""
    self.groups[-1].append(plan)
    filler = sum(s.n_frames for s in plan.shots if isinstance(s.source, StockSpec))
    share = round(filler / sum(s.n_frames for s in plan.shots), 3)
    self.facts[plan.id] = Fact(
      kind, family, incident.appearance, incident.motion, incident.scene, share
    )


@dataclasses.dataclass(frozen=True)
class _Incident:
  scene: int
  appearance: int
  motion: int


def plan(settings: Settings) -> Benchmark:
  """Plans all videos; the same settings give the same plan."""
  combinations = _combinations(settings)
  benchmark = Benchmark()
  _plan_training(settings, combinations["train"], combinations["background"], benchmark)
  _plan_evaluation(settings, combinations["query"], combinations["distractor"], benchmark)
  return benchmark


def _combinations(settings):
  """(appearance, motion) pairs for each use, without overlap."""
  rng = np.random.default_rng([settings.seed, 50])
  # Round after round through all appearances, so that every use gets a mixture.
  motions = np.array([rng.permutation(len(MOTIONS)) for _ in APPEARANCES])
  rounds = [[(a, int(motions[a, r])) for a in rng.permutation(len(APPEARANCES)).tolist()]
            for r in range(len(MOTIONS))]  # fmt: skip
  pairs = list(itertools.chain(*rounds))
  query, rest = pairs[: settings.n_queries], pairs[settings.n_queries :]
  n = len(rest)
  return {
    "query": query, "distractor": rest[: n // 4], "train": rest[n // 4 : n * 5 // 8],
    "background": rest[n * 5 // 8 :],
  }  # fmt: skip


def _plan_training(settings, combinations, background, benchmark):
  for i in range(settings.n_train_families):
    rng = np.random.default_rng([settings.seed, 51, i])
    incident = _Incident(_seed(rng), *combinations[i % len(combinations)])
    shots, whole = _story(rng, settings, incident)
    benchmark.groups.append([])
    name = f"train{i:03d}"
    benchmark.add(VideoPlan(name, whole), "train", i, incident)
    kept = {name: set(shots)}
    for j in range(settings.n_train_edits):
      id_ = f"{name}_{j}"
      other = background[rng.integers(len(background))]
      if j % 4 == 3:
        copy, kept[id_] = _edited(rng, id_, whole, settings), set(shots)
      else:
        copy, kept[id_] = _recut(rng, id_, settings, shots, other)
      benchmark.add(copy, "copy", i, incident)
    benchmark.pairs += [(a, b) for a, b in itertools.combinations(kept, 2) if kept[a] & kept[b]]
  for i in range(settings.n_background):
    rng = np.random.default_rng([settings.seed, 52, i])
    incident = _Incident(_seed(rng), *background[i % len(background)])
    _, whole = _story(rng, settings, incident)
    benchmark.groups.append([])
    benchmark.add(VideoPlan(f"background{i:03d}", whole), "background", -1, incident)


def _plan_evaluation(settings, combinations, others, benchmark):
  fillers = []
  for i in range(settings.n_queries):
    rng = np.random.default_rng([settings.seed, 53, i])
    incident = _Incident(_seed(rng), *combinations[i])
    fillers.append(rng.choice(N_STOCK, 2, replace=False))
    benchmark.groups.append([])
    _plan_query(rng, settings, i, incident, others, fillers[-1], benchmark)
  for i in range(settings.n_distractors):
    rng = np.random.default_rng([settings.seed, 54, i])
    chosen = others[rng.integers(len(others))]
    stock = rng.choice(N_STOCK, 2, replace=False)
    if settings.n_queries and rng.random() < 0.6 * min(settings.difficulty, 1):
      near = i % settings.n_queries
      stock = fillers[near]
      alike = [pair for pair in others if pair[0] == combinations[near][0]]
      if alike and rng.random() < 0.5:
        chosen = alike[rng.integers(len(alike))]
    incident = _Incident(_seed(rng), *chosen)
    _, whole = _story(rng, settings, incident, stock)
    benchmark.groups.append([])
    benchmark.add(VideoPlan(f"distractor{i:03d}", whole), "distractor", -1, incident)


def _plan_query(rng, settings, i, incident, others, stock, benchmark):
  """A query and everything relevant to it."""
  name = f"query{i:03d}"
  shots, whole = _story(rng, settings, incident, stock)
  benchmark.add(VideoPlan(name, whole), "query", i, incident)
  relevant = {label: [] for label in ("ND", "DS", "CS", "IS")}
  for label, count in zip(relevant, settings.n_per_label, strict=True):
    for j in range(count):
      id_ = f"{name}_{label}{j}"
      about = incident
      if label == "ND":
        video = _edited(rng, id_, whole, settings, light=True)
      elif label == "DS":
        video, _ = _recut(rng, id_, settings, shots, others[rng.integers(len(others))])
      else:
        if label == "IS":
          about = dataclasses.replace(incident, scene=_seed(rng))
        video = VideoPlan(id_, _story(rng, settings, about)[1])
      benchmark.add(video, label, i, about)
      relevant[label].append(id_)
  benchmark.annotation[name] = relevant


def _seed(rng):
  return int(rng.integers(1 << 40))


def _filler_share(rng, settings):
  return min(rng.uniform(0.3, 0.6) * settings.difficulty, 0.85)


def _story(rng, settings, incident, stock=None):
  """A video of an incident.

  Returns:
    two or three shots of its scene; and the whole video, these shots with filler.
  """
  share = _filler_share(rng, settings)
  n_frames = settings.fps * rng.uniform(*settings.seconds) * (1 - share)
  lengths = _split(rng, max(1, round(n_frames)), int(rng.integers(2, 4)))
  shots = tuple(_scene_shot(rng, settings, incident, n) for n in lengths)
  return shots, _with_filler(rng, settings, shots, share, stock)


def _scene_shot(rng, settings, incident, n_frames):
  source = SceneSpec(
    seed=incident.scene, appearance=incident.appearance, motion=incident.motion,
    camera=str(rng.choice(CAMERAS)), camera_seed=_seed(rng), time=round(rng.uniform(0, 60), 3),
    height=settings.size, width=settings.size, n_frames=n_frames, fps=settings.fps,
    noise=round(rng.uniform(1, 4), 2), flicker=settings.flicker, plain=settings.plain,
  )  # fmt: skip
  return Shot(source, 0, n_frames)


def _with_filler(rng, settings, shots, share, stock=None):
  """The shots in order, with stock shots before, between and after them.

  Args:
    shots: of the incident.
    share: of filler in the whole, in [0, 1).
    stock: the stock shots to choose from; None for two of the pool.
  """
  stock = rng.choice(N_STOCK, 2, replace=False) if stock is None else stock
  n_frames = round(sum(s.n_frames for s in shots) * share / (1 - share))
  whole = max(1, round(_STOCK_SECONDS * settings.fps))
  parts = max(2, -(-n_frames // whole) + 1)
  sequence = list(shots)
  for n in _split(rng, n_frames, parts) if n_frames else []:
    source = StockSpec(settings.seed, int(rng.choice(stock)), settings.size, settings.size,
                       whole, settings.fps)  # fmt: skip
    n = min(n, whole)
    start = int(rng.integers(whole - n + 1))
    sequence.insert(int(rng.integers(len(sequence) + 1)), Shot(source, start, start + n))
  return tuple(sequence)


def _split(rng, total, parts):
  """Cuts a number of frames into at most `parts` lengths of at least 1, none much longer."""
  parts = min(parts, total)
  bounds = np.cumsum(rng.uniform(0.6, 1.4, parts))
  ends = np.rint(bounds / bounds[-1] * (total - parts)).astype(int) + np.arange(1, parts + 1)
  return np.diff(ends, prepend=0).tolist()


def _edited(rng, id_, shots, settings, light=False):
  """A copy of a whole video, edited."""
  extra = settings.difficulty > 1.5
  names, count = (_LIGHT, (1, 2 + extra)) if light else (_STRONG, (1, 3 + extra))
  crf = int(rng.integers(23, 29 if light else 33))
  return VideoPlan(id_, shots, _seed(rng), names, count, crf)


def _recut(rng, id_, settings, shots, other):
  """Some of an incident's shots, shortened, in a video with another scene and other filler.

  Returns:
    the plan, and the set of shots that it keeps (as they are in `shots`).
  """
  n_kept = int(rng.integers(1, max(2, len(shots))))
  kept = [shots[k] for k in sorted(rng.choice(len(shots), n_kept, replace=False))]
  parts = []
  for shot in kept:
    n = max(1, round(shot.n_frames * rng.uniform(0.7, 1.0)))
    start = shot.start + int(rng.integers(shot.n_frames - n + 1))
    parts.append(dataclasses.replace(shot, start=start, stop=start + n))
  length = max(1, round(settings.fps * rng.uniform(0.1, 0.25) * settings.seconds[0]))
  guest = _scene_shot(rng, settings, _Incident(_seed(rng), *other), length)
  parts.insert(int(rng.integers(len(parts) + 1)), guest)
  whole = _with_filler(rng, settings, tuple(parts), _filler_share(rng, settings))
  return _edited(rng, id_, whole, settings), set(kept)
