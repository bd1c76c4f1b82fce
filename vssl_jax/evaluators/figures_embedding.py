"""Video descriptors in the plane, coloured by the query that they are relevant to."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vssl_jax.evaluators.embedded import Embed, embed_videos
from vssl_jax.evaluators.figures import FAINT, INK
from vssl_jax.metrics.neighbours import purity
from vssl_jax.ops.tsne import tsne

# Okabe and Ito's colours without grey, and yellow darkened; with two shapes, 14 queries.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
SHAPES = ("o", "^")
MOST_QUERIES = len(COLOURS) * len(SHAPES)
MOST_OTHERS = 200


@dataclasses.dataclass(frozen=True)
class Sample:
  """Videos to draw.

  Attributes:
    ids: N videos.
    groups: [N] int, the number in `queries` of the query that a video is relevant to or is; -1 for
      distractors.
    queries: ids.
  """

  ids: tuple[str, ...]
  groups: np.ndarray
  queries: tuple[str, ...]


def sample_videos(annotation: Mapping[str, Mapping[str, Sequence[str]]], database: Sequence[str],
                  available: Callable[[str], bool], *, labels: Sequence[str] = ("ND", "DS", "CS"),
                  queries: int = MOST_QUERIES, others: int = MOST_OTHERS, seed: int = 0) -> Sample:
  """Queries at random, what is relevant to each, and distractors: relevant to no query at all.

  A video that is relevant to several of the queries is left out, for it has no one colour; so are
  queries with nothing left.

  Raises:
    ValueError: fewer than two queries have a relevant video.
  """
  rng, owner = np.random.default_rng(seed), {}
  relevant, known = {}, set()
  for query, lists in annotation.items():
    known |= {query}.union(*lists.values())
    if available(query):
      relevant[query] = {i for label in labels for i in lists.get(label, ()) if available(i)}
  found = sorted(q for q, ids in relevant.items() if ids - {q})
  chosen = [found[i] for i in np.sort(rng.permutation(len(found))[:min(queries, MOST_QUERIES)])]
  for number, query in enumerate(chosen):
    for video in {query} | relevant[query]:
      owner[video] = number if owner.setdefault(video, number) == number else -1
  groups = {i: g for i, g in owner.items() if g >= 0}
  sizes = np.bincount(list(groups.values()), minlength=len(chosen))
  kept = [n for n, size in enumerate(sizes) if size > 1]
  if len(kept) < 2:
    raise ValueError("fewer than two queries have relevant videos of their own")
  rest = [i for i in database if i not in known and available(i)]
  rest = [rest[i] for i in np.sort(rng.permutation(len(rest))[:others])]
  ids = [i for i in sorted(groups) if groups[i] in kept]
  numbers = [kept.index(groups[i]) for i in ids] + [-1] * len(rest)
  return Sample((*ids, *rest), np.array(numbers), tuple(chosen[n] for n in kept))


def video_vectors(ids: Sequence[str], descriptors, embed: Embed, block: int = 64) -> np.ndarray:
  """[N, D] video descriptors; ValueError where one has no frames."""
  missing, found = [], {}
  for batch in embed_videos(dict.fromkeys(ids), descriptors, embed, block, missing):
    found.update(zip(batch.ids, batch.video, strict=False))
  if missing:
    raise ValueError(f"{missing[0]!r} has no descriptor")
  return np.stack([found[i] for i in ids])


def embedding_figure(vectors: Mapping[str, np.ndarray], sample: Sample, *, seed: int = 0,
                     title: str | None = None) -> Figure:
  """One panel a row: t-SNE of video descriptors, and how pure neighbourhoods are without it.

  Args:
    vectors: row -> [N, D] unit vectors of the sample's videos; for example baseline and trained.
    sample: which videos these are; see `sample_videos`.
    seed: of the t-SNE.
    title: over the whole; default says what is seen.
  """
  page = Figure(figsize=(0.6 + 5.4 * max(2, len(vectors)), 7.6), facecolor="white")
  panels = page.subplots(1, len(vectors), squeeze=False)[0]
  page.subplots_adjust(left=0.03, right=0.97, bottom=0.09, top=0.765, wspace=0.04)
  for panel, (row, x) in zip(panels, vectors.items(), strict=True):
    _scatter(panel, tsne(x, seed=seed), sample)
    share = np.mean(list(purity(x, sample.groups).values()))
    panel.set_title(f"{share:.0%} of nearest videos belong to the same query", loc="left",
                    fontsize=11, color=INK)
    panel.text(0, 1.075, row, transform=panel.transAxes, size=13, weight="bold", color=INK)
  others = int(np.sum(sample.groups < 0))
  page.text(0.03, 0.95, title or "Do videos of the same event lie together?", size=17,
            weight="bold", color=INK, va="center")
  page.text(0.03, 0.885, f"Each point is a video, near ones have similar descriptors (t-SNE). A "
            f"colour and shape is one of {len(sample.queries)} queries with the videos\nrelevant "
            f"to it; grey are {others} distractors. The share is measured between the descriptors "
            "themselves, 100% means groups stand apart.", size=10.5, color=FAINT, va="center",
            linespacing=1.5)
  handles = [Line2D([], [], linestyle="", marker=m, color=c, markersize=s, label=text,
                    markeredgecolor=e)
             for m, c, s, e, text in (("o", "#0072B2", 11, "#22262b", "query (ringed)"),
                                      ("o", "#0072B2", 7, "white", "relevant to it"),
                                      ("o", "#c9ccd2", 5, "none", "distractor"))]
  page.legend(handles=handles, loc="lower left", ncols=3, frameon=False, fontsize=10.5,
              bbox_to_anchor=(0.02, 0.02))
  return page


def _scatter(panel, y: np.ndarray, sample: Sample) -> None:
  """Distractors below, then each query's videos, the query itself larger and ringed."""
  grey = sample.groups < 0
  panel.scatter(*y[grey].T, s=16, color="#c9ccd2", linewidths=0, zorder=1)
  is_query = np.isin(sample.ids, sample.queries)
  for number in range(len(sample.queries)):
    style = dict(color=COLOURS[number % len(COLOURS)], marker=SHAPES[number // len(COLOURS)])
    own = sample.groups == number
    panel.scatter(*y[own & ~is_query].T, s=48, edgecolors="white", linewidths=0.7, zorder=2,
                  **style)
    panel.scatter(*y[own & is_query].T, s=120, edgecolors=INK, linewidths=1.6, zorder=3, **style)
  panel.set(xticks=[], yticks=[])
  panel.margins(0.04)
  panel.spines[:].set_color("#d9dce1")
