"""A retrieval model as files that need only JAX: its parts, and how each is called."""

import pathlib

import jax
import numpy as np

from experiments import origin
from experiments.retrieval import features
from vssl_jax import export
from vssl_jax.evaluators import learned
from vssl_jax.types import ConfigError

FRAMES, EMBED, SCORE = (f"{name}.jaxexport" for name in ("frames", "embed", "score"))


def write(model, state, folder: pathlib.Path) -> list[pathlib.Path]:
  """Writes the parts of a `workflows.retrieval.Model`; returns their paths."""
  folder.mkdir(parents=True, exist_ok=True)
  params, aux = jax.device_get((state.params, state.aux))
  about = (f"{model.config.method.name} trained on {model.config.data.name}, step "
           f"{int(state.step)}")
  _frames(model, folder / FRAMES)
  _embed(model, params, aux, folder / EMBED, about)
  if model.method.score:
    _score(model, params, aux, folder / SCORE, about)
  return [folder / name for name in (FRAMES, EMBED, SCORE) if name != SCORE or model.method.score]


def _frames(model, path: pathlib.Path) -> None:
  side = model.extractor.image

  def describe(inputs):
    return {"x": features.whiten(model.whitening, model.extractor.apply(inputs["frames"]))}

  c = model.config.features
  export.save(
      path, describe,
      {"frames": export.Input(("t", side, side, 3), "uint8", "RGB frames of one video")},
      outputs={"x": "whitened unit descriptors, one a frame" if model.extractor.regions == 1 else
                    f"{model.extractor.regions} whitened unit vectors a frame, end to end"},
      normalisation="done inside: x / 255, ImageNet statistics, PCA whitening, unit length",
      about=f"Frames of a video, {c.fps} a second, to descriptors. First resize the short side to "
            f"{c.short_side} and crop the centre {side} x {side}.")


def _embed(model, params, aux, path: pathlib.Path, about: str) -> None:
  export.save(
      path, lambda inputs: model.method.embed(params, aux, inputs),
      {"x": export.Input(("b", "t", model.dim), "float32", "descriptors, padded to t frames"),
       "length": export.Input(("b",), "int32", "true number of frames, at least 1")},
      outputs={"video": "unit vector of a video: compare by dot product",
               "frames": "unit vectors of its frames, zero at padding (of its clusters, where the "
                         "model is a NetVLAD or NeXtVLAD): compare by Chamfer",
               "length": "how many of them are valid",
               "attention": "what the last layer attends to: sums to 1 over the valid frames",
               "weights": "how much each frame counts in video, 0 to 1"},
      normalisation="descriptors come whitened and of unit length from frames.jaxexport",
      about=about)


def _score(model, params, aux, path: pathlib.Path, about: str) -> None:
  dim = _embedded(model.method, model.dim, params, aux)["frames"].shape[-1]

  def score(inputs):
    query, target = ({key: inputs[f"{side}_{key}"] for key in ("frames", "length")}
                     for side in ("query", "target"))
    return model.method.score(params, aux, query, target)

  def side(name, count, frames):
    return {f"{name}_frames": export.Input((count, f"8*{frames}", dim), "float32",
                                           "what embed.jaxexport gave, padded to a multiple of 8"),
            f"{name}_length": export.Input((count,), "int32", "how many of them are valid")}

  export.save(path, score, side("query", "q", "t") | side("target", "n", "s"),
              outputs=dict.fromkeys(score_names(model.method, model.dim, params, aux),
                                    "similarity of every query to every target"),
              normalisation="frames come from embed.jaxexport", about=about)


def score_names(method, dim: int, params, aux) -> tuple[str, ...]:
  """Names of the similarities that a method's score gives."""
  out = _embedded(method, dim, params, aux)
  return tuple(jax.eval_shape(method.score, params, aux, out, out))


def load_score(embed: pathlib.Path) -> learned.Score:
  """The score that was exported beside `embed`, as a host function."""
  path = pathlib.Path(embed).with_name(SCORE)
  if not path.is_file():
    raise ConfigError(f"{path}: no such file; it belongs beside {embed}, make it with "
                      "--mode=export")
  fn, names = export.load(path), tuple(export.page(path)["outputs"])

  def pairs(query, target):
    inputs = {f"{side}_{key}": x[key] for side, x in (("query", query), ("target", target))
              for key in ("frames", "length")}
    return jax.device_get(fn(inputs))

  return learned.Score(names, pairs)


def digest(embed: pathlib.Path) -> str:
  """A hash of an exported model: of the file `embed`, and of the score beside it, if any."""
  paths = pathlib.Path(embed), pathlib.Path(embed).with_name(SCORE)
  return origin.digest([origin.file_digest(path) for path in paths if path.is_file()])


def _embedded(method, dim: int, params, aux):
  inputs = {"x": jax.ShapeDtypeStruct((1, 8, dim), np.float32),
            "length": jax.ShapeDtypeStruct((1,), np.int32)}
  return jax.eval_shape(method.embed, params, aux, inputs)
