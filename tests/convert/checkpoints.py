"""Makes altered and made-up torch checkpoints."""

import io
import pathlib
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np

from vssl_jax.convert import torch_pickle

DATA = pathlib.Path(__file__).parent / "data"


def rewrite(source: pathlib.Path, target: pathlib.Path, change, **kwargs) -> pathlib.Path:
  """Copies a zip checkpoint; `change(name, data)` gives each entry's new data, None drops it."""
  with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", **kwargs) as new:
    for info in old.infolist():
      data = change(info.filename.partition("/")[2], old.read(info))
      if data is not None:
        new.writestr(info.filename, data)
  return target


def with_pickle(tmp_path: pathlib.Path, data: bytes) -> pathlib.Path:
  def swap(name, old):
    return data if name == "data.pkl" else old

  return rewrite(DATA / "windows.pth", tmp_path / "made.pth", swap)


class Call:
  """Pickles into a call of any function."""

  def __init__(self, function, *args):
    self.call = function, args

  def __reduce__(self):
    return self.call


def write(path: pathlib.Path, state: Mapping[str, np.ndarray], **more) -> pathlib.Path:
  """A state dict much as `torch.save` writes it; with `more`, `{"state_dict": state, **more}`.

  Storages name their NumPy types where torch names classes of its own.
  """
  storages = {name: np.asarray(value, order="C") for name, value in state.items()}
  keys = {name: str(i) for i, name in enumerate(storages)}
  buffer = io.BytesIO()

  class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
      if not isinstance(obj, torch_pickle.Storage):
        return None
      return "storage", obj.dtype, keys[obj.key], "cpu", obj.numel

    def reducer_override(self, obj):
      if not isinstance(obj, Call):
        return NotImplemented
      name, value = obj.call[0], storages[obj.call[0]]
      strides = tuple(s // value.itemsize for s in value.strides)
      storage = torch_pickle.Storage(name, value.dtype.name, value.size)
      return torch_pickle._rebuild_tensor, (storage, 0, value.shape, strides, False, None)

  tensors = OrderedDict((name, Call(name)) for name in storages)
  Pickler(buffer, 2).dump({"state_dict": tensors, **more} if more else tensors)
  named = f"{torch_pickle.__name__}\n_rebuild_tensor\n".encode()
  data = buffer.getvalue().replace(named, b"torch._utils\n_rebuild_tensor_v2\n")
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("archive/data.pkl", data)
    archive.writestr("archive/byteorder", "little")
    for name, value in storages.items():
      archive.writestr(f"archive/data/{keys[name]}", value.tobytes())
    archive.writestr("archive/version", "3\n")
  return path
