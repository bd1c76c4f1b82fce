"""What a model gives for views of videos, kept video by video.

So evaluations share it, splits of a data set do too, and one that was interrupted goes on.
"""

import concurrent.futures
import pathlib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.store import Store, StoreWriter
from experiments import interrupt, origin
from experiments.recognition.data import THREADS, Views
from vssl_jax import log
from vssl_jax.evaluators.labelled import Labelled
from vssl_jax.types import ConfigError

VERSION = 1  # raise it when what was stored would come out differently
OUTPUTS = ("mean", "logvar", "logits")  # what evaluations ask for beside the features

# Rows, a video's views one after the other and videos in order; and the outputs, [N, D] each.
Part = tuple[Labelled, dict[str, np.ndarray]]


class Change(NamedTuple):
  """What is done to views before they are embedded.

  Attributes:
    name: of it, in JSON's types.
    apply: from a video's id and views to what is embedded in their place.
  """

  name: tuple
  apply: Callable[[str, np.ndarray], np.ndarray]


class Described:
  """What one model gives for all views that it is asked for.

  Attributes:
    scratch, about: see `__init__`.
  """

  def __init__(self, embed: Callable, key: str, batch: int, *,
               scratch: pathlib.Path | None = None, about: Any = None, brief: bool = False):
    """Args:
      embed: a host function from `{"image"}` or `{"clip"}` to a dict of arrays.
      key: of them, which are the features.
      batch: videos at a time.
      scratch: a folder to keep it in, of the same model by `about`; None keeps it in memory.
      brief: views aren't changed, whoever asks for it.
    """
    self._embed, self._key, self._batch, self._brief = embed, key, batch, brief
    self.scratch, self.about = scratch, about
    self._plain: dict[str, _Memory | _Disk] = {}

  def of(self, views: Views) -> Part:
    """Features of all views of all readable videos, and those of `OUTPUTS` that there are.

    Raises:
      ConfigError: no video can be read, or the model gives no such features.
      FloatingPointError: it gives numbers that aren't finite.
    """
    return self.changed(views, ())[0]

  def changed(self, views: Views, changes: Sequence[Change], needs: str = "") -> list[Part]:
    """The same of the views as they are, and then after each change; a video is decoded once.

    Args:
      changes: in memory what is changed isn't kept for others.
      needs: one of `OUTPUTS`; a model that doesn't give it is spared the changes.

    Returns:
      one part a change behind that of the views as they are, or that alone.
    """
    names, plain = views.digests, self._kept(views, None)
    if self._brief or (needs and plain.widths and needs not in plain.widths):
      changes = ()
    every = {None: plain} | {change: self._kept(views, change) for change in changes}
    left = {id_ for id_, name in names.items() if any(name not in kept for kept in every.values())}
    left -= views.bad.reasons.keys()
    if left:
      d = views.dataset
      shown = log.stage(views.only(left) if len(left) < len(names) else views, total=len(left),
                        name=f"{d.name} {d.split}", unit="videos")
      try:
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:  # changes cost like decoding
          self._describe(shown, names, every, needs, pool)
      finally:
        for kept in every.values():
          kept.finish()
    return [_assemble(kept, views, self._key) for change, kept in every.items()
            if change is None or not needs or needs in plain.widths]

  def features(self) -> dict[str, np.ndarray]:
    """Features of all that was asked for as it is: by video, for each kind of views."""
    return {f"{group} {name}": x[:, :kept.widths[self._key]]
            for group, kept in self._plain.items() for name, x in kept.items()}

  def _kept(self, views: Views, change: Change | None):
    group = origin.digest(VERSION, views.settings, change.name if change else ())
    if not change and group in self._plain:
      return self._plain[group]
    kept = _Disk(self.scratch / origin.digest(group, self.about)) if self.scratch else _Memory()
    if not change:
      self._plain[group] = kept
    return kept

  def _describe(self, views: Iterable, names: Mapping[str, str], every: Mapping, needs: str,
                pool: concurrent.futures.Executor) -> None:
    waiting = []

    def flush():
      for change, kept in every.items():
        if change and needs and needs not in every[None].widths:
          break
        some = [row for row in waiting if names[row[0]] not in kept]
        if not some:
          continue
        ids, parts = zip(*some, strict=True)
        if change:
          parts = tuple(pool.map(change.apply, ids, parts))
        self._embed_some(ids, parts, lambda id_, *x, kept=kept: kept.append(names[id_], *x))
      waiting.clear()

    for id_, _, x in views:
      interrupt.INTERRUPT.check()
      waiting.append((id_, x))
      if len(waiting) == self._batch:
        flush()
    if waiting:
      flush()

  def _embed_some(self, ids: Sequence[str], parts: Sequence[np.ndarray], keep: Callable) -> None:
    out = self._embed({"image" if parts[0].ndim == 4 else "clip": np.concatenate(parts)})
    if self._key not in out:
      raise ConfigError(f"the model gives {', '.join(sorted(out))}, but no {self._key!r}")
    columns = {name: out[name] for name in (self._key, *OUTPUTS) if name in out}
    widths = {name: x.shape[1] for name, x in columns.items()}
    rows = np.concatenate(list(columns.values()), axis=1, dtype=np.float32)
    for id_, x in zip(ids, np.split(rows, np.cumsum([len(p) for p in parts])[:-1]), strict=True):
      if not np.isfinite(x).all():
        raise FloatingPointError(f"what the model gives for {id_} isn't finite")
      keep(id_, x, widths)


def _assemble(kept, views: Views, key: str) -> Part:
  names = views.digests
  found = [record for record in views.dataset.records if names[record.id] in kept]
  if not found:
    raise ConfigError(f"no video of {views.dataset.name} {views.dataset.split} can be read")
  counts = [len(kept[names[record.id]]) for record in found]
  out = {name: np.empty((sum(counts), width), np.float32) for name, width in kept.widths.items()}
  at, first = 0, np.cumsum([0, *kept.widths.values()])
  for record, count in zip(found, counts, strict=True):
    rows = kept[names[record.id]]
    for x, column in zip(out.values(), first[:-1], strict=True):
      x[at:at + count] = rows[:, column:column + x.shape[1]]
    at += count
  ids, labels = (np.repeat([getattr(record, a) for record in found], counts)
                 for a in ("id", "label"))
  return Labelled(out.pop(key), labels, ids), out


class _Memory(dict):
  """Name of a video -> [V, D], its views' outputs side by side, `widths` columns each."""

  widths: Mapping[str, int] = types.MappingProxyType({})

  def append(self, name: str, rows: np.ndarray, widths: Mapping[str, int]) -> None:
    self[name], self.widths = rows, widths

  def finish(self) -> None:
    pass


class _Disk:
  """The same in a folder."""

  def __init__(self, folder: pathlib.Path):
    self._folder, self._writer = folder, None
    self._store: Mapping[str, np.ndarray] = {}
    self.widths: Mapping[str, int] = {}
    self._read()

  def _read(self) -> None:
    if (self._folder / "store.json").is_file():
      self._store = Store(self._folder)
      self.widths = self._store.meta

  def __contains__(self, name: str) -> bool:
    return name in self._store or (self._writer is not None and name in self._writer.done)

  def __getitem__(self, name: str) -> np.ndarray:
    return self._store[name]

  def items(self) -> Iterable[tuple[str, np.ndarray]]:
    return self._store.items()

  def append(self, name: str, rows: np.ndarray, widths: Mapping[str, int]) -> None:
    if self._writer is None:
      self.widths = widths
      self._writer = StoreWriter(self._folder, rows.shape[1], widths, setting="--workdir")
    self._writer.append(name, rows)

  def finish(self) -> None:
    """Makes what was appended readable."""
    if self._writer is not None:
      self._writer.__exit__()
      self._writer = None
      self._read()
