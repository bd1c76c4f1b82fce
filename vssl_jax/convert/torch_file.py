"""Reads torch checkpoints and safetensors into NumPy arrays, without torch and without trust.

Nothing that a file names is run. What a file declares is checked against what it holds, so a
damaged or hostile file ends in a `TorchFileError`, not in a crash or in someone else's code.
"""

import io
import math
import pathlib
import sys
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from vssl_jax.convert import torch_pickle
from vssl_jax.convert.torch_pickle import Storage, Tensor, TorchFileError

# Keys under which training scripts keep the weights, in the order tried.
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network")

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001

SAFETENSORS_TYPES = {
  "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
  "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32",
  "U16": "uint16", "U8": "uint8", "BOOL": "bool", "C64": "complex64",
}

# Tensors may overlap in their storage (tied or expanded weights), so together they may be larger
# than the file: by this factor and no more.
UNFOLD_FACTOR, UNFOLD_SLACK = 64, 2**26

# What zipfile raises for damaged archives (RuntimeError: encryption and versions it doesn't know).
ZIP_ERRORS = (zipfile.BadZipFile, RuntimeError, KeyError, EOFError, OSError, ValueError)

# (storage) -> its bytes
ReadStorage = Callable[[Storage], bytes | memoryview]


def load(path: str | pathlib.Path, convert: Callable, *, entry: str = "",
         prefixes: tuple[str, ...] = ()):
  """What `convert` makes of the arrays in a file, which its errors name.

  Args:
    path, entry: see `read`.
    convert: of torch name -> array.
    prefixes: wrappers to remove, see `strip_prefix`.

  Raises:
    TorchFileError: the file can't be read.
    ValueError: as `convert` does.
  """
  state = strip_prefix(read(path, entry=entry), *prefixes)
  try:
    return convert(state)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error


def read(path: str | pathlib.Path, *, entry: str = "") -> dict[str, np.ndarray]:
  """Reads the tensors of a checkpoint.

  `.safetensors` files, and all that `torch.save` writes (`.pth`, `.pt`, `.pth.tar`): the zip form
  and the older one. Wrapping dicts such as `{"state_dict": ..., "epoch": ...}` are opened.

  Args:
    path: the file.
    entry: keys that lead to the state dict, joined by "/", where it can't be guessed.

  Returns:
    Name -> array, C-contiguous, in the file's element types (bfloat16 is that of `ml_dtypes`).
    Entries of the state dict that aren't tensors are left out.

  Raises:
    TorchFileError: the file is damaged, is something else, names a class or function outside a
      plain state dict, or holds no state dict or several.
  """
  path = pathlib.Path(path)
  try:
    if path.suffix == ".safetensors":
      return _read_safetensors(path.read_bytes())
    with path.open("rb") as file:
      head = file.read(512)
      file.seek(0)
      if head.startswith(b"PK\x03\x04"):
        tree, read_storage, swap = _open_zip(file, path.stat().st_size)
      else:
        tree, read_storage, swap = _open_legacy(head, file.read())
      tensors = _find_tensors(tree, entry)
      return _materialise(tensors, read_storage, swap, path.stat().st_size)
  except TorchFileError as error:
    raise TorchFileError(f"{path}: {error}") from error


def strip_prefix(state: Mapping[str, Any], *prefixes: str) -> dict[str, Any]:
  """Unwraps names: `module.encoder_q.conv1.weight` -> `conv1.weight`.

  Each prefix in turn: if any name starts with it, only such names are kept, without it (so
  "encoder_q." drops `encoder_k.` and the queue); if none does, nothing changes.
  """
  for prefix in prefixes:
    inner = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
    state = inner or state
  return dict(state)


def _read_safetensors(data: bytes) -> dict[str, np.ndarray]:
  try:
    views = safetensors.deserialize(data)
  except safetensors.SafetensorError as error:
    raise TorchFileError(f"damaged safetensors file ({error}); download it again") from error
  state = {}
  for name, view in views:
    if view["dtype"] not in SAFETENSORS_TYPES:
      raise TorchFileError(f"{name} has the element type {view['dtype']}, which isn't supported")
    dtype, swap = SAFETENSORS_TYPES[view["dtype"]], sys.byteorder != "little"
    state[name] = _elements(view["data"], dtype, swap).reshape(view["shape"]).copy()
  return state


def _open_zip(file: Any, size: int) -> tuple[Any, ReadStorage, bool]:
  """The pickled tree, a reader of storages, and whether their bytes must be swapped."""
  try:
    archive = zipfile.ZipFile(file)
  except ZIP_ERRORS as error:
    raise TorchFileError(f"truncated or damaged ({error}); download it again") from error
  entries = {info.filename: info for info in archive.infolist()}
  # torch compresses nothing, so sizes beyond the file are a forgery.
  compressed = any(i.compress_type or i.compress_size != i.file_size for i in entries.values())
  overlapping = sum(i.file_size for i in entries.values()) > size
  if len(entries) != len(archive.infolist()) or compressed or overlapping:
    raise TorchFileError("a zip file, but with repeated, compressed or overlapping entries: "
                         "torch didn't write it, and it was not loaded")
  pickles = [n for n in entries if n.count("/") == 1 and n.endswith("/data.pkl")]
  if len(pickles) != 1:
    raise TorchFileError("a zip file, but not one that torch.save wrote: no data.pkl in it")
  root = pickles[0].removesuffix("data.pkl")
  if root + "constants.pkl" in entries:
    raise TorchFileError("a TorchScript program; save model.state_dict() instead")

  def read_entry(name: str) -> bytes:
    try:
      return archive.read(root + name)
    except ZIP_ERRORS as error:
      raise TorchFileError(f"{name} is missing or damaged ({error}); download it again") from error

  order = read_entry("byteorder") if root + "byteorder" in entries else b"little"
  if order not in (b"little", b"big"):
    raise TorchFileError(f"unknown byte order {order!r}")
  tree, _ = torch_pickle.load(io.BytesIO(read_entry("data.pkl")))
  return tree, lambda s: read_entry(f"data/{s.key}"), order.decode() != sys.byteorder


def _open_legacy(head: bytes, data: bytes) -> tuple[Any, ReadStorage, bool]:
  """As `_open_zip`, for files of torch before 1.6: five pickles, then the storages in a row."""
  if torch_pickle.is_caffe2(data):
    raise TorchFileError(
      "weights of Caffe2 (a pickle of NumPy arrays under 'blobs'), as PySlowFast's model zoo has "
      "them in .pkl: these aren't read, and the file was not loaded. PySlowFast's .pyth files are; "
      "its TRAIN.CHECKPOINT_TYPE=caffe2 reads the .pkl, and what it saves then is one")
  _refuse_other_kinds(head)
  stream = io.BytesIO(data)
  header = [torch_pickle.load(stream)[0] for _ in range(3)]
  if header[:2] != [LEGACY_MAGIC, LEGACY_VERSION] or not isinstance(header[2], dict):
    raise TorchFileError("a pickle, but not one that torch.save wrote")
  order = "little" if header[2].get("little_endian", True) else "big"
  tree, storages = torch_pickle.load(stream)
  keys, _ = torch_pickle.load(stream)
  if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
    raise TorchFileError("the list of storages is damaged; download the file again")
  sizes = {s.key: np.dtype(s.dtype).itemsize for s in storages}
  raw, position, data = {}, stream.tell(), memoryview(data)
  for key in keys:
    if key not in sizes:
      raise TorchFileError(f"storage {key} is listed, but belongs to no tensor")
    numel = int.from_bytes(data[position:position + 8], order)
    start, position = position + 8, position + 8 + numel * sizes[key]
    if position > len(data):
      raise TorchFileError("truncated; download it again")
    raw[key] = data[start:position]
  if not raw.keys() >= sizes.keys():
    raise TorchFileError("a storage is missing; download the file again")
  return tree, lambda storage: raw[storage.key], order != sys.byteorder


def _refuse_other_kinds(head: bytes) -> None:
  text = head.lstrip().lower()
  if not head:
    raise TorchFileError("an empty file; download it again")
  if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
    raise TorchFileError("a web page saved under this name; download the checkpoint itself")
  if text.startswith(b"version https://git-lfs"):
    raise TorchFileError("a Git LFS pointer; fetch the file it stands for with `git lfs pull`")
  if not head.startswith(b"\x80"):
    raise TorchFileError("neither a torch checkpoint nor .safetensors")


def _find_tensors(tree: Any, entry: str) -> dict[str, Tensor]:
  for key in entry.split("/") if entry else ():
    if not isinstance(tree, dict) or key not in tree:
      raise TorchFileError(f"no entry {key!r} of {entry!r}; {_describe(tree)}")
    tree = tree[key]
  for _ in range(8):  # deep enough for any wrapper, and ends for a dict that holds itself
    if not isinstance(tree, dict):
      break
    dicts = [key for key, value in tree.items() if isinstance(value, dict)]
    known = [key for key in WRAPPERS if key in dicts]
    tensors = {key: value for key, value in tree.items() if isinstance(value, Tensor)}
    if tensors and not known:
      if not all(isinstance(key, str) for key in tensors):
        raise TorchFileError("tensors have keys that aren't names; this is no state dict")
      return tensors
    if not known and len(dicts) != 1:
      break
    tree = tree[(known or dicts)[0]]
  raise TorchFileError(f"no state dict found; {_describe(tree)}. Name the entry (entry='a/b') or "
                       "save model.state_dict()")


def _describe(tree: Any) -> str:
  if not isinstance(tree, dict):
    return f"there is a {type(tree).__name__}"
  keys = [repr(key)[:40] for key in list(tree)[:10]]
  return f"there are {len(tree)} entries: {', '.join(keys)}{', ...' if len(tree) > 10 else ''}"


def _materialise(
  tensors: dict[str, Tensor], read_storage: ReadStorage, swap: bool, file_size: int
) -> dict[str, np.ndarray]:
  total = sum(math.prod(t.size) * np.dtype(t.storage.dtype).itemsize for t in tensors.values())
  if total > UNFOLD_FACTOR * file_size + UNFOLD_SLACK:
    raise TorchFileError(f"{total} bytes of tensors from a file of {file_size}: not loaded")
  storages, state = {}, {}
  for name, tensor in tensors.items():
    storage = tensor.storage
    key = (storage.key, storage.dtype)
    if key not in storages:
      storages[key] = _elements(read_storage(storage), storage.dtype, swap)
    elements = storages[key][storage.start:storage.start + storage.numel]
    if len(elements) != storage.numel:
      raise TorchFileError(f"{name} needs {storage.start + storage.numel} elements of storage "
                           f"{storage.key}, which holds {len(storages[key])}; download it again")
    state[name] = _window(elements, tensor)
  return state


def _window(elements: np.ndarray, tensor: Tensor) -> np.ndarray:
  try:
    if 0 in tensor.size:
      return np.zeros(tensor.size, elements.dtype)
    strides = [s * elements.itemsize for s in tensor.stride]
    start = elements[tensor.offset:]  # bounds were checked when the record was made
    return np.lib.stride_tricks.as_strided(start, tensor.size, strides).copy()
  except ValueError as error:
    raise TorchFileError(f"a tensor of size {list(tensor.size)}: {error}") from error


def _elements(data: bytes | memoryview, dtype: str, swap: bool) -> np.ndarray:
  """Bytes as a flat array of native byte order; a rest that fills no element is left out."""
  kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
  unit = kind.itemsize // 2 if kind.kind == "c" else kind.itemsize
  usable = len(data) - len(data) % kind.itemsize
  raw = np.frombuffer(data[:usable], f"u{unit}")
  raw = raw.byteswap() if swap else raw
  # A bool array that holds bytes other than 0 and 1 is undefined in NumPy.
  return raw != 0 if kind == np.bool_ else raw.view(kind)
