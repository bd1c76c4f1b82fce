"""Feature store: one array of descriptors a video, appended to flat files, read by memory map.

A store is a folder of three kinds of files:
- `store.json`: format, `dim`, and a free `meta` dict that says how the features were made;
- `frames-I-of-N.f32`: rows of `dim` little-endian float32 numbers, video after video;
- `index-I-of-N.jsonl`: a line a video, `{"id", "row", "length"}`, or `{"id", "reason"}` for a
  video that could not be read.
`I of N` is the process that wrote the file. A video's rows are on disk before its line is, so a
writer that was killed continues where the last whole line ends. A second writer of the same files
waits for the first (`lock-I-of-N`). Flat files rather than Parquet or ArrayRecord, since evaluation
at scale reads them in any order without a copy.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np

from data_pipelines import lock
from data_pipelines.errors import DataError

FORMAT = "vssl_frames/1"


class StoreWriter:
  """Appends videos to one shard of a store; resumes where an interrupted writer stopped."""

  def __init__(self, folder: str | os.PathLike, dim: int, meta: dict,
               shard: tuple[int, int] = (0, 1), setting: str = "data.cache_dir"):
    """Opens the shard `(index, count)` for appending; `setting` is what the user chose it by.

    Raises:
      DataError: the folder can't be written, or holds a store made in another way.
    """
    self.folder, self.dim, self._setting = pathlib.Path(folder), dim, setting
    header = {"format": FORMAT, "dim": dim, "meta": meta}
    try:
      self.folder.mkdir(parents=True, exist_ok=True)
      name = f"{shard[0]:05d}-of-{shard[1]:05d}"
      self._lock = lock.hold(self.folder / f"lock-{name}", wait=True)
      _write_header(self.folder / "store.json", header)
      frames, index = self.folder / f"frames-{name}.f32", self.folder / f"index-{name}.jsonl"
      self.done, rows = _recover(index, frames, dim)
      self._frames, self._index, self._row = frames.open("ab"), index.open("a"), rows
    except OSError as e:
      raise DataError(f"{self.folder}: can't write features here ({e.strerror}); "
                      f"choose another {setting}") from e

  def append(self, video_id: str, frames: np.ndarray) -> None:
    """Adds a video: `frames` [T, dim], T >= 1, finite."""
    if frames.ndim != 2 or frames.shape[1] != self.dim or not len(frames):
      raise ValueError(f"{video_id}: expected [T >= 1, {self.dim}], got {frames.shape}")
    if not np.isfinite(frames).all():
      raise ValueError(f"{video_id}: its features hold numbers that are not finite")
    self._write(frames.astype("<f4").tobytes(),
                {"id": video_id, "row": self._row, "length": len(frames)})
    self._row += len(frames)

  def reject(self, video_id: str, reason: str) -> None:
    """Records a video that could not be read."""
    self._write(b"", {"id": video_id, "reason": reason})

  def _write(self, data: bytes, line: dict) -> None:
    try:
      self._frames.write(data)
      self._frames.flush()
      self._index.write(json.dumps(line) + "\n")
      self._index.flush()
    except OSError as e:
      raise DataError(f"{self.folder}: can't write features ({e.strerror}); free some space or "
                      f"choose another {self._setting}, and run again to continue") from e
    self.done.add(line["id"])

  def __enter__(self):
    return self

  def __exit__(self, *_):
    for file in (self._frames, self._index, self._lock):
      # All is flushed, so closing fails only where `_write` has failed, and told so.
      with contextlib.suppress(OSError):
        file.close()


class Store(Mapping):
  """Read-only view of a store: id -> float32 [T, dim], memory-mapped.

  Attributes:
    dim: feature size.
    meta: as given to the writer.
    rejected: id -> reason, of the videos that could not be read.
  """

  def __init__(self, folder: str | os.PathLike):
    self.folder = pathlib.Path(folder)
    header = _read_header(self.folder / "store.json")
    self.dim, self.meta = header["dim"], header["meta"]
    self._where: dict[str, tuple[np.ndarray, int, int]] = {}
    self.rejected: dict[str, str] = {}
    for index in sorted(self.folder.glob("index-*.jsonl")):
      self._add(index)

  def _add(self, index: pathlib.Path) -> None:
    frames = index.with_name(index.name.replace("index-", "frames-")).with_suffix(".f32")
    lines = _lines(index)  # before the size: another process may be appending
    size = frames.stat().st_size // (4 * self.dim)
    shape = (size, self.dim)
    rows = np.memmap(frames, "<f4", "r", shape=shape) if size else np.zeros(shape, "<f4")
    for line in lines:
      if "reason" in line:  # it may have been read in the end
        if line["id"] not in self._where:
          self.rejected[line["id"]] = line["reason"]
      elif line["row"] + line["length"] <= size:
        self._where[line["id"]] = rows, line["row"], line["length"]
        self.rejected.pop(line["id"], None)
      else:
        raise DataError(f"{frames} is shorter than its index says: delete {self.folder} and run "
                        "again to make the features anew")

  def __getitem__(self, video_id: str) -> np.ndarray:
    rows, start, length = self._where[video_id]
    return rows[start:start + length]

  def __iter__(self) -> Iterator[str]:
    return iter(self._where)

  def __len__(self) -> int:
    return len(self._where)

  def length(self, video_id: str) -> int:
    """Number of frames of a video, without touching its data."""
    return self._where[video_id][2]

  def view(self, names: Mapping[str, str]) -> "View":
    """The videos of this store under other names: `names` maps the new name to the stored one."""
    return View(self, names)


class View(Mapping):
  """Some videos of a store under names of their own; get it from `Store.view`.

  Attributes:
    dim: as in the store; rejected: name -> reason.
  """

  def __init__(self, store: Store, names: Mapping[str, str]):
    self._store, self.dim = store, store.dim
    self._names = {name: stored for name, stored in names.items() if stored in store}
    self.rejected = {name: store.rejected[stored] for name, stored in names.items()
                     if stored in store.rejected}

  def __getitem__(self, name: str) -> np.ndarray:
    return self._store[self._names[name]]

  def __iter__(self) -> Iterator[str]:
    return iter(self._names)

  def __len__(self) -> int:
    return len(self._names)

  def length(self, name: str) -> int:
    """Number of frames of a video, without touching its data."""
    return self._store.length(self._names[name])


def _write_header(path: pathlib.Path, header: dict) -> None:
  if path.exists():
    found = _read_header(path)
    if found != header:
      raise DataError(f"{path.parent} holds features made in another way: delete it")
    return
  temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
  temporary.write_text(json.dumps(header, indent=1))
  os.replace(temporary, path)


def _read_header(path: pathlib.Path) -> dict:
  try:
    header = json.loads(path.read_text())
  except FileNotFoundError:
    raise DataError(f"{path.parent} is no feature store: {path.name} is missing") from None
  except json.JSONDecodeError as e:
    raise DataError(f"{path} is damaged: delete {path.parent} and run again") from e
  if header.get("format") != FORMAT:
    raise DataError(f"{path}: format {header.get('format')!r}, expected {FORMAT!r}")
  return header


def _lines(path: pathlib.Path) -> list[dict]:
  """All whole lines; the last one may have been cut off."""
  text = path.read_text()
  return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _recover(index: pathlib.Path, frames: pathlib.Path, dim: int) -> tuple[set[str], int]:
  """Cuts both files after the last video that is whole in both; returns its ids and rows."""
  frames.touch()  # before the index, for whoever reads meanwhile
  size = frames.stat().st_size // (4 * dim)
  kept, rows = [], 0
  for line in _lines(index) if index.exists() else []:
    end = line.get("row", rows) + line.get("length", 0)
    if end > size:
      break
    kept.append(line)
    rows = end
  temporary = index.with_suffix(".tmp")
  temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
  os.replace(temporary, index)
  with frames.open("ab") as f:
    f.truncate(rows * 4 * dim)
  return {line["id"] for line in kept}, rows
