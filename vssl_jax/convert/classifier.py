"""Backbones of pictures or clips to variables of a classifier without its last layer."""

import pathlib

from vssl_jax.convert import trunk
from vssl_jax.convert.imported import Imported


def load(path: str | pathlib.Path, *, entry: str = "") -> Imported:
  """Reads the file; see `trunk.load`."""
  return trunk.load_into(path, ("trunk",), ("params.fc",), entry=entry)
