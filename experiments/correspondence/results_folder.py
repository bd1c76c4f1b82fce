"""The folder of a propagation: whose it is, and what of an earlier one goes."""

import json
import pathlib
import re
from collections.abc import Sequence

from data_pipelines.encode import write_atomic
from experiments import cli
from vssl_jax.types import ConfigError

PAGE, OVERLAY, MASKS, POINTS = "propagation.json", "overlay.mp4", "masks", "points.csv"
_TEMPORARY = re.compile(rf"\.({PAGE}|{OVERLAY}|{POINTS})\..*\.tmp")
_MASK = re.compile(r"\d{5,}\.(png|part)")


def claim(output: str, page: dict, inputs: Sequence[str]) -> pathlib.Path:
  """Makes the folder, or empties one that an earlier call left; nothing else is ever removed.

  Args:
    output: the folder.
    page: how the new results are made, written at once as unfinished.
    inputs: files and folders that must not lie in it.

  Raises:
    ConfigError: it holds anything that isn't a propagation's, or an input.
  """
  folder = pathlib.Path(output)
  if not output:
    raise ConfigError("--output=FOLDER is needed: where the results go")
  cli.make_folder(folder, "--output")
  for path in inputs:
    if folder.resolve() in (pathlib.Path(path).resolve(), *pathlib.Path(path).resolve().parents):
      raise ConfigError(f"--output={output} holds an input, {path}; choose another folder")
  old = _ours(folder, output)
  with cli.writing(folder):
    write_page(folder, {**page, "finished": False})
    for path in old:
      path.unlink()
    if (folder / MASKS).is_dir():
      (folder / MASKS).rmdir()
  return folder


def write_page(folder: pathlib.Path, page: dict) -> None:
  write_atomic(folder / PAGE, (json.dumps(page, indent=1) + "\n").encode())


def _ours(folder: pathlib.Path, output: str) -> list[pathlib.Path]:
  """The files of an earlier call in it, but for its page."""
  inside = sorted(folder.iterdir())
  if not inside:
    return []
  old, other = [], [] if folder / PAGE in inside else inside
  for path in inside:
    if path.is_dir() and path.name == MASKS and not path.is_symlink():
      for mask in path.iterdir():
        (old if _MASK.fullmatch(mask.name) else other).append(mask)
    elif path.name in (OVERLAY, POINTS) or _TEMPORARY.fullmatch(path.name):
      old.append(path)
    elif path.name != PAGE:
      other.append(path)
  if other:
    raise ConfigError(f"--output={output} holds {other[0].relative_to(folder)}, which is no result "
                      f"of an earlier propagation ({PAGE} tells those); choose a new folder")
  return old
