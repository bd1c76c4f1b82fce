"""Our data sets as builders of TFDS, for programs that are written for these.

  builder = builders.builder("ucf101", root="UCF101", data_dir="TFDS")
  builder.download_and_prepare()
  source = builder.as_data_source("all")
  record = examples.to_record(source[0])

No name is registered, so none clashes with TFDS's own data sets. Once prepared,
`tfds.builder_from_directory(builder.data_dir)` reads them without this package.
"""

import dataclasses
import os
from typing import Any

import tensorflow_datasets as tfds

from data_pipelines import examples, preparation, source
from data_pipelines.errors import DataError
from data_pipelines.transcode import Settings

_OF_SETTINGS = ("short_side", "encode", "crf")
_OWN = {"dataset", "input", "output", "settings"}  # which the builder sets itself


class Builder(tfds.core.DatasetBuilder, skip_registration=True):
  """One data set; get it from `builder`."""

  VERSION = tfds.core.Version("1.0.0")

  def __init__(self, *, name: str, root: str, data_dir: str, settings: dict[str, Any]):
    self.name = name
    stored = Settings(**{k: settings[k] for k in _OF_SETTINGS if k in settings})
    others = {k: v for k, v in settings.items() if k not in _OF_SETTINGS}
    super().__init__(data_dir=data_dir)
    self._job = preparation.Job(name, root, self.data_dir, settings=stored, **others)
    # For pickling.
    self._original_state = dict(name=name, root=root, data_dir=data_dir, settings=settings)

  def download_and_prepare(self, **_) -> None:
    """Writes the shards, or goes on where an interrupted call stopped; see `preparation`.

    Nothing is downloaded, so TFDS's arguments about that have no meaning here.

    Raises:
      DataError: wrong input or settings, or too many bad videos.
    """
    preparation.prepare(self._job)
    self.info.read_from_directory(self.data_dir)

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(builder=self, features=examples.features(),
                                 description=f"{self.name}, with whole encoded videos.")

  def _download_and_prepare(self, dl_manager, download_config=None) -> None:
    raise NotImplementedError("download_and_prepare does it all")

  def _as_dataset(self, split, decoders=None, read_config=None, shuffle_files=False):
    raise NotImplementedError("use as_data_source, which needs no TensorFlow")


def builder(name: str, root: str | os.PathLike, data_dir: str | os.PathLike,
            **settings: Any) -> Builder:
  """A TFDS builder of one of our data sets.

  Args:
    name: of a reader in `data_pipelines.datasets`.
    root: the data set's folder, as it was downloaded.
    data_dir: of TFDS; the shards go to DATA_DIR/NAME/1.0.0.
    settings: short_side, encode and crf of `transcode.Settings`; everything of `preparation.Job`.

  Raises:
    DataError: there is no such data set, or a setting is wrong.
  """
  source.module(name)
  known = {*_OF_SETTINGS, *(f.name for f in dataclasses.fields(preparation.Job))} - _OWN
  if unknown := set(settings) - known:
    raise DataError(f"{name}: there is no setting {min(unknown)!r} (all: "
                    f"{', '.join(sorted(known))})")
  return Builder(name=name, root=os.fspath(root), data_dir=os.path.expanduser(data_dir),
                 settings=settings)
