"""What the distributions of videos tell: retrieval by several measures, and whether the uncertain
queries are those that fail or that were made worse (provico spec 11.4 to 11.6).

Two kinds of failing are told apart: a video's nearest neighbour is of another class, which nothing
in training asks about; or a clip's is of another video, which is what training is about.

Everything is of what `provico`'s `embed` gives for labelled videos, already on the host.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from vssl_jax.evaluators import labelled
from vssl_jax.metrics import recall
from vssl_jax.metrics import uncertainty as metrics
from vssl_jax.ops import gaussian_pairs, nearest
from vssl_jax.types import ConfigError

KS = (1, 5, 10)
OF_FEATURES, OF_VIDEOS, OF_CLIPS = ("cosine", "centred"), ("bhattacharyya",), ("mixture",)
MEASURES = OF_FEATURES + OF_VIDEOS + OF_CLIPS
SIDE = ("video", "mean", "logvar", "clip_mean", "clip_logvar")


@dataclasses.dataclass(frozen=True)
class Row:
  """N labelled videos as `embed` gives them.

  Attributes:
    labels: [N] int.
    video: [N, C] features of the backbone.
    mean, logvar: [N, D] of the videos; None for a method without distributions.
    clip_mean, clip_logvar: [N, M, D] of their clips, for the measure "mixture"; or None.
  """

  labels: np.ndarray
  video: np.ndarray
  mean: np.ndarray | None = None
  logvar: np.ndarray | None = None
  clip_mean: np.ndarray | None = None
  clip_logvar: np.ndarray | None = None

  def __post_init__(self):
    n = len(self.labels)
    for name in SIDE:
      x = getattr(self, name)
      if x is None:
        continue
      axes = 3 if name.startswith("clip") else 2
      if np.ndim(x) != axes or len(x) != n or not n:
        raise ValueError(f"{name} {np.shape(x)} of {n} labels: should have {axes} axes, the first "
                         "as long, and not be empty")
      if not np.isfinite(x).all():
        raise ValueError(f"{name} has numbers that aren't finite")

  @classmethod
  def of(cls, embedding: Mapping[str, np.ndarray], labels: np.ndarray) -> "Row":
    """From an embedding, of which other keys don't matter."""
    return cls(np.asarray(labels), **{k: np.asarray(embedding[k]) for k in SIDE if k in embedding})


def measures_of(*rows: Row) -> tuple[str, ...]:
  """Those of `MEASURES` that all of the rows have what it takes for."""
  def has(names):
    return all(getattr(row, name) is not None for row in rows for name in names)

  return (OF_FEATURES + OF_VIDEOS * has(("mean", "logvar"))
          + OF_CLIPS * has(("clip_mean", "clip_logvar")))


def scores(query: Row, gallery: Row, measure: str, *, lam: float = 0.25,
           reading: str = "sum") -> np.ndarray:
  """[Q, G], larger is nearer.

  Args:
    measure: "cosine" of features; "centred", with each set's own mean off, which uses the queries
      as a set; "bhattacharyya", the negative distance of the videos' Gaussians; "mixture", that of
      the mixtures of their clips, for videos of several scenes (`gaussian_pairs.mixture`).
    lam, reading: of the distances, see `gaussian.bhattacharyya`; the defaults are the true ones.

  Raises:
    ConfigError: no such measure, or the rows lack what it takes.
  """
  if measure not in MEASURES:
    raise ConfigError(f"measure={measure!r} is unknown; choose one of {', '.join(MEASURES)}")
  if measure not in measures_of(query, gallery):
    raise ConfigError(f"measure={measure!r} needs {'clip_' * (measure in OF_CLIPS)}mean and "
                      f"{'clip_' * (measure in OF_CLIPS)}logvar, which the embedding doesn't have")
  if measure in OF_FEATURES:
    return recall.cosine(query.video, gallery.video, centred=measure == "centred")
  if measure in OF_VIDEOS:
    sides = (query.mean, query.logvar), (gallery.mean, gallery.logvar)
    return -np.asarray(gaussian_pairs.closed_form(*sides, lam=lam, reading=reading), np.float64)
  sides = (query.clip_mean, query.clip_logvar), (gallery.clip_mean, gallery.clip_logvar)
  return -np.asarray(gaussian_pairs.mixture(*sides, lam=lam, reading=reading), np.float64)


@dataclasses.dataclass(frozen=True)
class Report:
  """What one evaluation found.

  Attributes:
    ks: numbers of neighbours.
    hits: measure -> [K, Q] bool.
    nearest: measure -> [Q] score of the nearest neighbour.
    u: [Q] uncertainty of the queries, larger is less certain; None without distributions.
    levels: measure -> R@k of the first of ks by level of u, see `metrics.uncertainty.levels`.
    curves: measure -> (coverage, risk), [Q] each, see `metrics.uncertainty.risk_coverage`.
    areas: measure -> {"aurc", "best", "random"}.
    clips: of the queries' clips, see `find_own`; None for videos of one clip.
  """

  ks: tuple[int, ...]
  hits: dict[str, np.ndarray]
  nearest: dict[str, np.ndarray]
  u: np.ndarray | None
  levels: dict[str, dict[str, np.ndarray]]
  curves: dict[str, tuple[np.ndarray, np.ndarray]]
  areas: dict[str, dict[str, float]]
  clips: tuple[np.ndarray, np.ndarray] | None = None

  @property
  def numbers(self) -> dict[str, float]:
    """By measure: `R@k`; of u and the hits of the first k `spearman`, `pearson`, `aurc`, `e_aurc`
    (beside the best order of the same hits), `aurc_ratio` (to a random order; 1 where nothing
    fails); `levels/pearson`, R@k against the number of the level. `distance/aurc_ratio` is of the
    distance to the nearest neighbour in u's place, which needs no distributions. Of the clips that
    are to find their own video `clips/R@1`, and `clips/spearman` and `clips/aurc_ratio` of their
    own variance.
    """
    found = {}
    for name, hits in self.hits.items():
      found |= {f"{name}/R@{k}": float(row.mean()) for k, row in zip(self.ks, hits, strict=True)}
      found[f"{name}/distance/aurc_ratio"] = _ratio(metrics.area(-self.nearest[name], hits[0]))
      if self.u is not None:
        found |= {f"{name}/{key}": value for key, value in self._certainty(name).items()}
    if self.u is not None:
      found["uncertainty"] = float(self.u.mean())
    if self.clips is not None:
      hit, u = self.clips
      found |= {"clips/R@1": float(hit.mean()), "clips/spearman": metrics.spearman(u, hit),
                "clips/aurc_ratio": _ratio(metrics.area(u, hit))}
    return found

  def _certainty(self, name: str) -> dict[str, float]:
    hit, area, by_level = self.hits[name][0], self.areas[name], self.levels[name]["recall"]
    return {"spearman": metrics.spearman(self.u, hit), "pearson": metrics.pearson(self.u, hit),
            "aurc": area["aurc"], "e_aurc": area["aurc"] - area["best"],
            "aurc_ratio": _ratio(area),
            "levels/pearson": metrics.pearson(np.arange(len(by_level)), by_level)}


def _ratio(area: Mapping[str, float]) -> float:
  return area["aurc"] / area["random"] if area["random"] else 1.0


def find_own(query: Row, kind: str = "geometric") -> tuple[np.ndarray, np.ndarray] | None:
  """Whether the clip nearest to each is another one of its own video, and each clip's uncertainty.

  Nearest by the cosine of the distributions' means. [Q M] bool and [Q M] float64, None if a video
  has one clip alone.
  """
  if query.clip_mean is None or query.clip_mean.shape[1] < 2:
    return None
  videos, count, dim = query.clip_mean.shape
  means, clip = query.clip_mean.reshape(-1, dim), np.arange(videos * count)
  _, found = nearest.nearest(means, means, 1, queries_of=clip, bank_of=clip)
  hit = found[:, 0] // count == clip // count
  return hit, metrics.of_video(query.clip_logvar, kind).ravel()


def report(query: Row, gallery: Row, *, measures: Sequence[str] = (), ks: Sequence[int] = KS,
           kind: str = "geometric", bins: int = 10, lam: float = 0.25,
           reading: str = "sum") -> Report:
  """Retrieves each query in the gallery, and sets the hits against the queries' uncertainty.

  Args:
    query, gallery: videos, of the same classes.
    measures: of `scores`; all that the rows have what it takes for if empty.
    ks: how many neighbours are looked at; those above the gallery are all of it.
    kind: of a video's uncertainty, see `metrics.uncertainty.of_video`.
    bins: levels of uncertainty, of equal count; one a query where there are fewer.
    lam, reading: of the distances.

  Raises:
    ConfigError: impossible settings.
  """
  ks = tuple(ks)
  labelled.check_counts("ks", ks)
  if bins < 1:
    raise ConfigError(f"bins={bins} must be at least 1")
  counts = [min(k, len(gallery.labels)) for k in ks]
  hits, close = {}, {}
  for name in measures or measures_of(query, gallery):
    score = scores(query, gallery, name, lam=lam, reading=reading)
    hits[name] = recall.hits(score, query.labels, gallery.labels, counts)
    close[name] = score.max(axis=1)
  if query.logvar is None:
    return Report(ks, hits, close, None, {}, {}, {})
  u = metrics.of_video(query.logvar, kind)
  first = {name: rows[0] for name, rows in hits.items()}
  bins = min(bins, len(u))
  return Report(ks, hits, close, u, {n: metrics.levels(u, hit, bins) for n, hit in first.items()},
                {n: metrics.risk_coverage(u, hit) for n, hit in first.items()},
                {n: metrics.area(u, hit) for n, hit in first.items()}, find_own(query, kind))


@dataclasses.dataclass(frozen=True)
class Strengths:
  """Uncertainty of the same videos, made worse step by step.

  Attributes:
    name: of what was done, for instance "noise".
    strengths: [S], increasing.
    u: [S, Q] of the videos, where clips that differ add to it.
    clips: [S, Q], mean of what a video's clips have on their own; None if those aren't known.
    hits: [S, Q] bool, R@1 of them by the cosine; None without a gallery.
  """

  name: str
  strengths: np.ndarray
  u: np.ndarray
  clips: np.ndarray | None = None
  hits: np.ndarray | None = None

  @property
  def numbers(self) -> dict[str, float]:
    """`spearman` of strength and uncertainty over all videos and steps; `within`, the mean of each
    video's own (0 for one that doesn't change); `rising`, the share of videos that are less
    certain at the last step than at the first; `u/S` at each strength. The same of the clips below
    `clips/`. With hits, `R@1/S` at each strength and, over all videos and steps, `aurc_ratio` (see
    `Report.numbers`).
    """
    found = self._of(self.u)
    if self.clips is not None:
      found |= {f"clips/{key}": value for key, value in self._of(self.clips).items()}
    if self.hits is not None:
      found |= {f"R@1/{s:g}": float(row.mean())
                for s, row in zip(self.strengths, self.hits, strict=True)}
      found["aurc_ratio"] = _ratio(metrics.area(self.u.ravel(), self.hits.ravel()))
    return {f"{self.name}/{key}": value for key, value in found.items()}

  def within(self, u: np.ndarray) -> np.ndarray:
    """[Q] rank correlation of strength and u of each video; 0 for one that doesn't change."""
    return np.nan_to_num([metrics.spearman(self.strengths, row) for row in u.T])

  def _of(self, u: np.ndarray) -> dict[str, float]:
    every = np.repeat(self.strengths, u.shape[1])
    return {"spearman": metrics.spearman(every, u.ravel()), "within": float(self.within(u).mean()),
            "rising": float(np.mean(u[-1] > u[0]))} | {
                f"u/{s:g}": float(row.mean()) for s, row in zip(self.strengths, u, strict=True)}


def by_strength(name: str, rows: Mapping[float, Row], gallery: Row | None = None, *,
                kind: str = "geometric") -> Strengths:
  """How uncertainty goes with what was done to the clips.

  Args:
    name: of that.
    rows: strength -> the same videos in the same order, embedded after it.
    gallery: videos to retrieve in, to see accuracy fall beside it.
    kind: as of `report`.

  Raises:
    ConfigError: fewer than two strengths, or there are no distributions.
    ValueError: the videos differ.
  """
  at = sorted(rows)
  if len(at) < 2:
    raise ConfigError(f"{name}: needs two strengths or more, not {at}")
  if any(rows[s].logvar is None for s in at):
    raise ConfigError(f"{name}: needs logvar, which the embedding doesn't have")
  if any(not np.array_equal(rows[s].labels, rows[at[0]].labels) for s in at):
    raise ValueError(f"{name}: should be of the same videos at each strength")
  u = np.stack([metrics.of_video(rows[s].logvar, kind) for s in at])
  clips = hits = None
  if all(rows[s].clip_logvar is not None for s in at):
    clips = np.stack([metrics.of_video(rows[s].clip_logvar, kind).mean(-1) for s in at])
  if gallery is not None:
    hits = np.stack([recall.hits(scores(rows[s], gallery, "cosine"), rows[s].labels,
                                 gallery.labels, (1,))[0] for s in at])
  return Strengths(name, np.asarray(at, np.float64), u, clips, hits)
