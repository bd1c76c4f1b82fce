"""From data sets to batches, with Grain.

The order and every random choice are functions of the seed and the element's index. So a run
resumes from its step alone, and neither threads nor the number of processes change what a global
batch holds.
"""

import collections
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grain
import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.records import RetrievalData


def fit_length(x: np.ndarray, length: int, start: int | None = None) -> np.ndarray:
  """Pads `x` [L, ...] with zeros at the end, or cuts a window, to [length, ...] (tca spec 8).

  Args:
    start: first frame of the window, 0 .. L - length; needed only where L > length.
  """
  if len(x) > length:
    if start is None or not 0 <= start <= len(x) - length:
      raise ValueError(f"start={start} is outside 0..{len(x) - length}")
    return x[start:start + length]
  return np.concatenate([x, np.zeros((length - len(x), *x.shape[1:]), x.dtype)])


class _Rows:
  """This process's rows of every global batch, in order; a source with random access.

  Process p of P owns the p-th block of each batch, not every P-th element, so that the global
  batch, put together device by device, is the same for every P.
  """

  def __init__(self, elements, batch: int, process: tuple[int, int], first_step: int):
    index, count = process
    if batch % count:
      raise DataError(f"train.batch={batch} can't be split over {count} processes; "
                      f"use a multiple of {count}")
    self._elements, self._batch, self._local = elements, batch, batch // count
    self._offset = first_step * batch + index * self._local

  def __len__(self) -> int:
    return 2**50

  def __getitem__(self, i: int) -> Any:
    step, row = divmod(i, self._local)
    return self._elements[self._offset + step * self._batch + row]


def batches(elements: grain.MapDataset, *, batch: int, process: tuple[int, int] = (0, 1),
            first_step: int = 0, threads: int = 2, buffer: int = 32, workers: int = 0,
            receive: Callable[[Any], Any] | None = None) -> Iterator[Any]:
  """Endless local batches of an infinite random-access data set.

  Args:
    elements: infinite (`repeat(None)`), all random maps done.
    batch: global batch size; this process gets `batch / count` rows of each.
    process: (index, count) of this process.
    first_step: number of batches to skip, at no cost.
    threads, buffer: Grain's reading threads, and elements they may read ahead.
    workers: processes that read, each with so many threads and such a buffer; 0 reads in this one.
      PyAV, NumPy and Pillow release Python's lock, so threads are enough unless augmentation costs
      more than decoding. Elements must be picklable, and the program have a `__main__` guard.
    receive: applied to each element in turn, here, before batching.
  """
  rows = grain.MapDataset.source(_Rows(elements, batch, process, first_step))
  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(buffer, threads))
  read = rows.to_iter_dataset(options)
  if workers:
    read = read.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
  if receive:
    read = read.map(receive)
  ready = read.batch(batch // process[1])
  # Another thread puts the next batches together while the step runs.
  return _closing(grain.experimental.ThreadPrefetchIterDataset(ready, prefetch_buffer_size=2))


def _closing(dataset: grain.IterDataset) -> Iterator[Any]:
  """Its elements; threads and processes behind them end with the iterator."""
  iterator = iter(dataset)
  try:
    yield from iterator
  finally:
    iterator.close()


SAMPLINGS = ("window", "random")


def pairs(data: RetrievalData, store: Mapping[str, np.ndarray], *, length: int, negatives: int,
          seed: int, sampling: str = "window") -> grain.MapDataset:
  """Training examples of TCA from stored frame descriptors, as an infinite random-access data set.

  Every pair comes once an epoch, in a new order each. The length passed with a video that was cut
  is its true one. Batches run on from one epoch into the next, so no pair is dropped at an epoch's
  end.

  Args:
    store: id -> [T, D]; pairs and background videos that are not in it are left out.
    negatives: distinct background videos a pair, none of the anchor's own group.
    sampling: what a video longer than `length` gives: "window", contiguous frames with a uniform
      start, or "random", frames drawn with replacement, unsorted (tca spec 8).

  Returns:
    Elements `{"anchor", "positive", "negative"}`, each `{"x": [length, D] float32, "length",
    "group": int32}`; for "negative" with a leading axis of `negatives`.

  Raises:
    DataError: no pair, or too few background videos, are left.
  """
  if sampling not in SAMPLINGS:
    raise DataError(f"pairs.sampling={sampling!r} is unknown; choose one of {', '.join(SAMPLINGS)}")
  usable = [p for p in data.pairs if p[0] in store and p[1] in store]
  background = [i for i in dict.fromkeys(data.background) if i in store]  # lists repeat some ids
  if not usable:
    raise DataError(f"{data.name}: none of the {len(data.pairs)} training pairs can be read; "
                    "add training videos")
  groups = data.groups
  anchors = {groups.get(anchor, -1) for anchor, _ in usable} - {-1}
  counts = collections.Counter(groups.get(i, -1) for i in background)
  related = max((counts[g] for g in anchors), default=0)
  if len(background) - related < negatives:
    raise DataError(f"{data.name}: {len(background) - related} background videos are unrelated to "
                    f"an anchor, fewer than pairs.negatives={negatives}; lower it or add videos")

  def video(video_id: str, rng: np.random.Generator) -> dict[str, Any]:
    x = store[video_id]
    if len(x) > length and sampling == "random":
      cut = x[rng.integers(len(x), size=length)]
    else:
      start = int(rng.integers(len(x) - length + 1)) if len(x) > length else None
      cut = fit_length(x, length, start)
    return {"x": np.asarray(cut, np.float32), "length": np.int32(len(x)),
            "group": np.int32(groups.get(video_id, -1))}

  def example(pair: tuple[str, str], rng: np.random.Generator) -> dict[str, Any]:
    group, chosen = groups.get(pair[0], -1), []
    while len(chosen) < negatives:  # distinct, and seldom more than a try each
      i = background[int(rng.integers(len(background)))]
      if i not in chosen and (group < 0 or groups.get(i, -1) != group):
        chosen.append(i)
    negative = [video(i, rng) for i in chosen]
    stacked = {k: np.stack([n[k] for n in negative]) for k in ("x", "length", "group")}
    return {"anchor": video(pair[0], rng), "positive": video(pair[1], rng), "negative": stacked}

  return grain.MapDataset.source(usable).seed(seed).shuffle().repeat(None).random_map(example)
