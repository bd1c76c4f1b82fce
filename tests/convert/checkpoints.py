"""Makes altered and made-up torch checkpoints."""

import pathlib
import zipfile

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
