"""Functions as files: `jax.export` bytes and a JSON page that says how to call them.

An exported file needs JAX and nothing of this package:

  import jax, jax.export, pathlib
  fn = jax.export.deserialize(pathlib.Path("embed.jaxexport").read_bytes())
  out = jax.jit(fn.call)({"x": x, "length": length})

It is a derived artefact: JAX promises to read it for six months (backwards) and three weeks
(forwards). The archive of a run is its checkpoint and resolved config, from which it can be
exported again.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import export as jax_export

from vssl_jax.types import ConfigError

PLATFORMS = ("cpu", "cuda", "tpu")


class Input(NamedTuple):
  """One argument: dimensions are numbers, or names where any size is accepted."""

  shape: tuple[int | str, ...]
  dtype: str
  meaning: str


def save(path: pathlib.Path, fn: Callable, inputs: dict[str, Input], *, outputs: dict[str, str],
         normalisation: str, about: str, platforms: tuple[str, ...] = PLATFORMS) -> None:
  """Writes `path` (*.jaxexport) and, beside it, `path` with the suffix .json.

  Args:
    fn: takes a dict of arrays with the keys of `inputs`; its parameters are closed over.
    outputs: name -> meaning, for the page.
    normalisation: what has been, or has to be, done to the inputs.
  """
  scope = jax_export.SymbolicScope()
  spec = {}
  for name, item in inputs.items():
    shape = jax_export.symbolic_shape(", ".join(map(str, item.shape)), scope=scope)
    spec[name] = jax.ShapeDtypeStruct(shape, item.dtype)
  exported = jax_export.export(jax.jit(fn), platforms=platforms)(spec)
  data = exported.serialize()
  _write(path, data)
  contents = {
      "about": about,
      "inputs": {k: {"shape": list(v.shape), "dtype": v.dtype, "meaning": v.meaning}
                 for k, v in inputs.items()},
      "outputs": {k: {"shape": [d if isinstance(d, int) else str(d) for d in a.shape],
                      "dtype": str(a.dtype), "meaning": outputs[k]}
                  for k, a in _named(exported).items()},
      "normalisation": normalisation,
      "platforms": list(platforms),
      "jax": jax.__version__,
      "calling_convention_version": exported.calling_convention_version,
      "sha256": hashlib.sha256(data).hexdigest(),
  }
  _write(path.with_suffix(".json"), json.dumps(contents, indent=1).encode())


def load(path: pathlib.Path) -> Callable:
  """The exported function, jitted; checks the file against its page.

  Raises:
    ConfigError: a file is missing or damaged, or this machine's platform was not exported for.
  """
  path = pathlib.Path(path)
  about = page(path)
  data = path.read_bytes()
  if hashlib.sha256(data).hexdigest() != about.get("sha256"):
    raise ConfigError(f"{path} is damaged: its checksum is not the one in {path.stem}.json")
  platform = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
  if platform not in about["platforms"]:
    raise ConfigError(f"{path} was exported for {', '.join(about['platforms'])}, not {platform}")
  return jax.jit(jax_export.deserialize(bytearray(data)).call)


def page(path: pathlib.Path) -> dict[str, Any]:
  """The page beside an exported file; see `save`.

  Raises:
    ConfigError: the file or its page is missing, or the page is damaged.
  """
  beside = pathlib.Path(path).with_suffix(".json")
  for file in (pathlib.Path(path), beside):
    if not file.is_file():
      raise ConfigError(f"{file}: no such file; make it with --mode=export")
  try:
    return json.loads(beside.read_bytes())
  except ValueError:
    raise ConfigError(f"{beside} is damaged; make it anew with --mode=export") from None


def _named(exported) -> dict[str, Any]:
  return jax.tree.unflatten(exported.out_tree, exported.out_avals)


def _write(path: pathlib.Path, data: bytes) -> None:
  temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
  temporary.write_bytes(data)
  os.replace(temporary, path)
