"""The figures of a retrieval run."""

from collections.abc import Mapping

import numpy as np

from data_pipelines import frames as frame_pipeline
from data_pipelines.render import load_truth
from data_pipelines.render.draw import truth_path
from experiments.retrieval import results
from vssl_jax.evaluators import figures as drawing
from vssl_jax.evaluators import figures_attention, figures_curves, figures_embedding, protocols
from vssl_jax.evaluators.retrieval import Report

VIDEOS = 4  # whose attention is drawn


def figures(task, reports: Mapping[str, Report], rows: Mapping) -> tuple[dict, list[str]]:
  """All of them, for the rows of a run's table, of which the last is the trained model.

  Every process has to call it: models run on the devices of all.

  Returns:
    file name -> figure; and for each that doesn't apply a sentence that says why.
  """
  embeds = {name: embed for name, (embed, _) in rows.items()}
  pages, skipped = {"retrieval.png": results.figure(task, reports, embeds)}, []
  for name, page in (("curves.png", _curves), ("attention.png", _attention),
                     ("embedding.png", _embedding)):
    try:
      pages[name] = page(task, reports, embeds)
    except NotApplicable as e:
      skipped.append(f"No {name}: {e}.")
  return pages, skipped


class NotApplicable(Exception):
  """A figure can't be drawn of this model or data; says why."""


def _curves(task, reports, embeds):
  del task, embeds
  similarity = next(iter(next(iter(reports.values())).scores))
  curves = {row: {task: by[similarity] for task, by in protocols.mean_curves(r).items()}
            for row, r in reports.items()}
  if not all(curves.values()):
    raise NotApplicable("no query has a relevant video")
  return figures_curves.curves_figure(curves, similarity=similarity)


def _attention(task, reports, embeds):
  row, report = list(reports.items())[-1]
  similarity = next(iter(report.results))
  # Of one frame there is nothing to choose from.
  long = [q for q in report.queries if q in task.store and len(task.store[q]) > 1]
  attention = figures_attention.received(embeds[row], task.store, long)
  if attention is None:
    raise NotApplicable("this model attends to nothing")
  chosen = [q for q in drawing.spread_queries(report, similarity, VIDEOS) if q in attention]
  if not chosen:
    raise NotApplicable("no query with a relevant video has several frames")
  items = task.model.extractor.sequences([task.data.videos[q] for q in chosen])
  strips = {item["id"]: item["frames"] for item in items}
  filler = {q: f for q in attention if (f := _filler(task, q)) is not None}
  about = f"By {row}; videos from the best found to the worst."
  if filler:
    got, have = figures_attention.filler_share(attention, filler)
    untrained = [e for name, e in embeds.items() if name.startswith("untrained")]
    before = figures_attention.received(untrained[0], task.store, long) if untrained else None
    was = f" ({figures_attention.filler_share(before, filler)[0]:.1%} before training)" if (
        before) else ""
    about += (f" Over all {len(filler)} queries filler is {have:.1%} of the frames and gets "
              f"{got:.1%} of the attention{was}.")
  return figures_attention.attention_figure(
      {q: attention[q] for q in chosen}, strips, filler=filler, about=about)


def _filler(task, video_id: str) -> np.ndarray | None:
  """[T] bool, which frames are filler, where the data set knows: drawn videos do, unedited."""
  record, c = task.data.videos[video_id], task.config.features
  path = truth_path(record.video)
  if task.data.name != "procedural" or not path.is_file():
    return None
  stock, fps = load_truth(path).stock, task.config.data.fps
  at = frame_pipeline.choose_frames(np.arange(len(stock)) / fps, fps, None, None, fps=c.fps,
                                    max_frames=c.max_frames or None, parity=c.parity)
  return stock[at] >= 0


def _embedding(task, reports, embeds):
  names = list(reports)
  try:
    sample = figures_embedding.sample_videos(
        task.data.annotation, task.data.database, lambda i: i in task.store)
  except ValueError as e:
    raise NotApplicable(str(e)) from e
  vectors = {row: figures_embedding.video_vectors(sample.ids, task.store, embeds[row])
             for row in dict.fromkeys((names[0], names[-1]))}
  return figures_embedding.embedding_figure(vectors, sample)
