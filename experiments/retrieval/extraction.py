"""`--mode=extract`: the descriptors of a user's videos as one Parquet file.

Parquet, since any tool reads it (pandas, DuckDB, Spark, Polars) and it carries its own schema;
ArrayRecord would need our code to decode. A row a video:

  id        string                          path relative to --input
  n_frames  int32                           0 where the video could not be read
  video     fixed_size_list<float>[D]       unit vector; compare by dot product; null if unread
  frames    list<fixed_size_list<float>[F]> unit vectors of the frames; compare by Chamfer
  error     string                          null, or why the video could not be read

F is D but for NetVLAD and NeXtVLAD, whose `frames` describe clusters. The schema's metadata key
`vssl_jax` holds JSON: run, step, frames a second, dimension D.
"""

import json
import os
import pathlib
import shutil
from collections.abc import Callable

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.records import Record
from data_pipelines.store import Store, StoreWriter
from experiments import cli, inputs, origin
from experiments.retrieval import features
from vssl_jax.evaluators.embedded import embed_videos
from vssl_jax.types import ConfigError


def extract(model, workdir: pathlib.Path, source: str, output: str) -> None:
  """Writes the descriptors of a user's videos to a Parquet file."""
  check_output(output)
  videos = inputs.find_videos(source)
  step, state = model.newest(workdir)
  with cli.writing(pathlib.Path(output)):
    run = {"run": workdir.absolute().name, "step": step}
    counts = write(model, state, run, videos, pathlib.Path(output))
  print(f"{output}: {counts['videos']} videos, {counts['frames']} frames, "
        f"{counts['bad']} that could not be read" + (", see its column error" if counts["bad"]
                                                     else ""))


def check_output(output: str) -> None:
  """Raises ConfigError where `output` can't become a Parquet file."""
  path = pathlib.Path(output)
  if path.suffix != ".parquet":
    raise ConfigError(f"--output={output} must end in .parquet")
  if not path.absolute().parent.is_dir():
    raise ConfigError(f"--output={output}: there is no folder {path.absolute().parent}; make it")
  if path.is_dir():
    raise ConfigError(f"--output={output} is a folder; name a file in it")


def write(model, state, run: dict, videos: list[Record], output: pathlib.Path) -> dict[str, int]:
  """Decodes, embeds and writes all videos; resumes from `output`.*.partial after an interruption.

  Args:
    run: `run` and `step`, for the file's metadata.

  Returns:
    Counts: `videos`, `frames`, `bad`.
  """
  settings = features.settings_digest(model.config.features)
  keys = {v.id: origin.video_digest(v) for v in videos}
  partial = output.with_name(f"{output.name}.{settings[:8]}.partial")
  meta = {"settings": settings}
  with StoreWriter(partial, model.extractor.dim, meta, setting="--output") as writer:
    left = [v for v in videos if keys[v.id] not in writer.done]
    features.extract(model.extractor, left, lambda i, x: writer.append(keys[i], x),
                     lambda i, reason: writer.reject(keys[i], reason), name="extract")
  store = Store(partial).view(keys)
  info = {**run, "fps": model.config.features.fps}
  counts = _write_parquet(model, state, store, videos, output, info)
  shutil.rmtree(partial)
  return counts


def _schema(model, state, info: dict) -> pa.Schema:
  inputs = {"x": jax.ShapeDtypeStruct((1, 1, model.dim), np.float32),
            "length": jax.ShapeDtypeStruct((1,), np.int32)}
  out = jax.eval_shape(model.method.embed, state.params, state.aux, inputs)
  video, frame = (pa.list_(pa.float32(), out[key].shape[-1]) for key in ("video", "frames"))
  return pa.schema(
      [("id", pa.string()), ("n_frames", pa.int32()), ("video", video),
       ("frames", pa.list_(frame)), ("error", pa.string())],
      metadata={"vssl_jax": json.dumps({**info, "dim": video.list_size})})


def _write_parquet(model, state, store: Store, videos, output: pathlib.Path,
                   info) -> dict[str, int]:
  embed, whiten = model.embed(state), features.whitener(model.whitening)
  schema, size = _schema(model, state, info), model.config.embed.batch
  temporary = output.with_name(output.name + ".tmp")
  with pq.ParquetWriter(temporary, schema) as writer:
    for start in range(0, len(videos), size):
      ids = [v.id for v in videos[start:start + size]]
      found = {i: whiten(store[i]) for i in ids if i in store}
      vectors = _embed(embed, found, size)
      rows = [{"id": i, "n_frames": len(found.get(i, ())), "error": store.rejected.get(i),
               **vectors.get(i, {"video": None, "frames": None})} for i in ids]
      writer.write_table(pa.Table.from_pylist(rows, schema=schema))
  os.replace(temporary, output)
  frames = sum(store.length(i) for i in store)
  return {"videos": len(videos), "frames": frames, "bad": len(store.rejected)}


def _embed(embed: Callable, found: dict[str, np.ndarray], block: int) -> dict[str, dict]:
  """The columns `video` and `frames` of some videos, from their descriptors."""
  columns = {}
  for batch in embed_videos(found, found, embed, block, missing=[]):
    for i, name in enumerate(batch.ids):
      columns[name] = {"video": batch.video[i], "frames": list(batch.frames[i, :batch.length[i]])}
  return columns
