"""Backbones on clips, torchvision's or PySlowFast's, to variables of ProViCo without its heads."""

import pathlib

from vssl_jax.convert import trunk
from vssl_jax.convert.imported import Imported


def load(path: str | pathlib.Path, *, entry: str = "") -> Imported:
  """Reads the file; see `trunk.load`."""
  return trunk.load_into(path, ("net", "backbone"), ("params.net.head", "params.match"),
                         entry=entry, clips_only=True)
