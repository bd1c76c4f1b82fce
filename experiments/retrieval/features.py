"""Videos to whitened frame descriptors on disk: decode, backbone, pooling, PCA whitening."""

import hashlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from data_pipelines import frames as frame_pipeline
from data_pipelines import lock
from data_pipelines.records import Record, RetrievalData
from data_pipelines.store import Store, StoreWriter, View
from experiments import interrupt, origin
from vssl_jax import log, parallel
from vssl_jax.convert import resnet as convert
from vssl_jax.models import frame_features
from vssl_jax.ops import whitening
from vssl_jax.types import ConfigError

VERSION = 2  # raise it when stored features would come out differently


class Extractor:
  """Frames to raw descriptors, on this process's devices.

  Attributes:
    regions: vectors that describe a frame, one after the other in its descriptor.
    dim: of a raw descriptor, all its regions together.
    image: side of the square frames it takes.
  """

  def __init__(self, config):
    self.config, self.image = config, config.crop
    if not config.fps > 0:
      raise ConfigError(f"features.fps={config.fps} must be above 0")
    if config.crop > config.short_side:
      raise ConfigError(f"features.crop={config.crop} is more than features.short_side="
                        f"{config.short_side}; make it smaller")
    try:
      self._features = frame_features.make(
          backbone=config.backbone, width=config.width, pooling=config.pooling,
          weights=config.weights, seed=config.seed, dtype=config.dtype)
      self.variables = _variables(self._features)
      frame = jax.ShapeDtypeStruct((1, config.crop, config.crop, 3), "uint8")
      out = jax.eval_shape(self._features.apply, self.variables, frame)
    except ValueError as e:
      raise ConfigError(f"features: {e}") from e
    self.regions = out.shape[1] if out.ndim == 3 else 1
    self.dim = self.regions * out.shape[-1]
    if config.whiten > out.shape[-1]:
      raise ConfigError(f"features.whiten={config.whiten} is more than the {out.shape[-1]} "
                        "dimensions of a descriptor; make it smaller")
    mesh = parallel.mesh(jax.local_devices())
    variables = jax.device_put(self.variables, parallel.replicated(mesh))
    self._host = parallel.host_fn(
        lambda frames: self._rows(variables, frames), mesh, batch=config.block)

  def __call__(self, frames: np.ndarray) -> np.ndarray:
    """[T, crop, crop, 3] uint8 -> [T, dim] float32."""
    return self._host(frames)

  def apply(self, frames: jax.Array) -> jax.Array:
    """The same as a pure function, for the export."""
    return self._rows(self.variables, frames)

  def _rows(self, variables, frames: jax.Array) -> jax.Array:
    x = self._features.apply(variables, frames)
    return x.reshape(x.shape[0], self.dim)

  def sequences(self, videos: Sequence[Record]):
    """Decoded frames of videos, in order; see `data_pipelines.frames`."""
    c = self.config
    return frame_pipeline.frame_sequences(
        videos, short_side=c.short_side, crop=c.crop, fps=c.fps, max_frames=c.max_frames or None,
        parity=c.parity, threads=c.threads, buffer=c.buffer)


def _variables(model: frame_features.FrameFeatures):
  try:
    return model.init(load=convert.load)
  except FileNotFoundError as e:
    raise ConfigError(f'features.weights={model.weights}: no such file; name a ResNet in '
                      'torchvision\'s names, or "" for random weights') from e
  except OSError as e:
    raise ConfigError(f"features.weights={model.weights}: {e.strerror}") from e


def extract(extractor: Extractor, videos: Sequence[Record], append: Callable, reject: Callable, *,
            name: str) -> None:
  """Calls `append(id, raw [T, dim])` or `reject(id, reason)` for every video."""
  items = extractor.sequences(videos)
  with log.progress(items, name=name, total=len(videos), unit="videos") as bar:
    for item in bar:
      interrupt.INTERRUPT.check()
      if item["ok"]:
        append(item["id"], extractor(item["frames"]))
      else:
        reject(item["id"], item["reason"])


def prepare(config, data: RetrievalData, extractor: Extractor, known=None) -> tuple[View, Any]:
  """The whitened descriptors of a data set, made once and reused, and their whitening.

  Raw descriptors are stored by the video file they come from, whitened ones by the whitening too:
  what is added to a data set later is all that has to be extracted then.

  Args:
    known: the whitening that a run was trained with; None for a new run, which takes that of
      `features.whitening`, or fits one to its training videos.

  Raises:
    DataError: too many training videos can't be read (`data.max_bad_fraction`).
    ConfigError: no whitening that fits can be had.
  """
  if known is None:
    known = given_whitening(config.features, extractor.dim // extractor.regions,
                            bool(data.train_ids))
  videos = [data.videos[i] for i in dict.fromkeys([*data.train_ids, *data.eval_ids])]
  keys = {v.id: origin.video_digest(v) for v in videos}
  settings = settings_digest(config.features)
  folder = origin.cache_folder(config.data.cache_dir) / "features" / f"{data.name}-{settings}"
  _extract_missing(extractor, folder / "raw", videos, keys, {"settings": settings},
                   _bad_videos(data, config.data.max_bad_fraction))
  raw = Store(folder / "raw").view(keys)
  if known is None:
    c = config.features
    made_from = origin.digest(c.whiten, c.whiten_frames, c.seed, [keys[i] for i in data.train_ids])
    known = _fitted(folder / f"whitening-{made_from}.npz",
                    lambda: fit_whitening(raw, data.train_ids, c, extractor.regions))
  # By content: components are free in sign, so another fit to the same videos is another whitening.
  content = hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(known)))
  dim = extractor.regions * known.components.shape[1]
  white = _whiten(folder / f"whitened-{content.hexdigest()[:24]}", raw, known, keys, dim)
  return white, known


def given_whitening(config, dim: int, can_fit: bool):
  """The whitening in the file `features.whitening`, or None where it is to be fitted.

  Raises:
    ConfigError: the file is of no use, or there is neither a file nor a video to fit one to.
  """
  path = config.whitening
  if not path:
    if can_fit:
      return None
    raise ConfigError("features.whitening is empty, and there are no training videos to fit a "
                      "whitening to: name the whitening.npz of a trained run")
  try:
    found = whitening.load(path)
  except FileNotFoundError as e:
    raise ConfigError(f"features.whitening={path}: no such file; name the whitening.npz of a "
                      "trained run") from e
  except ValueError as e:
    raise ConfigError(f"features.whitening: {e}") from e
  shape = found.components.shape
  if shape != (dim, config.whiten):
    raise ConfigError(f"features.whitening={path} takes {shape[0]} dimensions to {shape[1]}, and "
                      f"descriptors here have {dim}, of which features.whiten={config.whiten} are "
                      "to be kept; use the features settings of the run that it comes from")
  return found


def _extract_missing(extractor, folder, videos, keys, meta, check) -> None:
  """Brings the raw store up to date; `check` takes note of rejected videos (id -> reason)."""
  process, count = jax.process_index(), jax.process_count()
  with StoreWriter(folder, extractor.dim, meta, (process, count)) as writer:
    before = Store(folder)
    # A file may come twice. What is whose must not depend on what others have written meanwhile.
    mine = list({keys[v.id]: v for v in videos}.values())[process::count]
    # Rejected videos are tried again: the cause may be gone.
    left = [v for v in mine if keys[v.id] not in before]

    def reject(video_id: str, reason: str) -> None:
      if before.rejected.get(keys[video_id]) != reason:
        writer.reject(keys[video_id], reason)
      check({video_id: reason})

    if left:
      extract(extractor, left, lambda i, x: writer.append(keys[i], x), reject, name="features")
  parallel.barrier("features")
  check(Store(folder).view(keys).rejected)


def _bad_videos(data: RetrievalData, max_fraction: float) -> Callable[[dict[str, str]], None]:
  """A function that reports rejected videos (id -> reason), each file once, and stops at too many.

  Only files of training videos count towards the limit; the evaluation names its own in its report.
  """
  train_files = {data.videos[i].video for i in data.train_ids}
  tally, others = frame_pipeline.BadVideos(log.write), frame_pipeline.BadVideos(log.write)

  def check(rejected: dict[str, str]) -> None:
    for video_id, reason in rejected.items():
      file = data.videos[video_id].video
      (tally if file in train_files else others).add({"id": file, "ok": False, "reason": reason})
    tally.check(max_fraction, len(train_files))

  return check


def _fitted(path: pathlib.Path, fit: Callable):
  """The whitening in the file `path`; the first process makes it by `fit()`."""
  if jax.process_index() == 0:
    with lock.hold(path.with_suffix(".lock"), wait=True):  # runs that share a cache fit it once
      if not path.exists():
        whitening.save(fit(), path)
  parallel.barrier("whitening")
  return whitening.load(path)


def fit_whitening(raw: View, train_ids: Sequence[str], config, regions: int = 1):
  """PCA whitening of training videos only: frames drawn with replacement (tca spec 3).

  Of a frame that is described by regions, each is a vector to fit on.
  """
  rng = np.random.default_rng(config.seed)
  usable = [i for i in train_ids if i in raw]

  def chunks():
    for start in range(0, len(usable), 256):
      rows = [raw[i][rng.integers(raw.length(i), size=config.whiten_frames)]
              for i in usable[start:start + 256]]
      yield np.concatenate(rows).reshape(-1, rows[0].shape[1] // regions)

  try:
    return whitening.fit(chunks(), config.whiten)
  except ValueError as e:
    raise ConfigError(f"features.whiten={config.whiten}: {e}") from e


def whiten(white, x: jax.Array) -> jax.Array:
  """Whitens every region of raw descriptors by itself: [T, R * D] -> [T, R * k]."""
  dim, k = white.components.shape
  regions = x.shape[-1] // dim
  y = whitening.apply(white, x.reshape(x.shape[0], regions, dim))
  return y.reshape(x.shape[0], regions * k)


def whitener(white) -> Callable[[np.ndarray], np.ndarray]:
  """`whiten` from NumPy [T, R * D] to NumPy [T, R * k], compiled once for any T."""
  apply, block = jax.jit(lambda x: whiten(white, x)), 256

  def call(x: np.ndarray) -> np.ndarray:
    padded = np.zeros((-(-len(x) // block) * block, x.shape[1]), np.float32)
    padded[: len(x)] = x
    parts = [np.asarray(apply(padded[i:i + block])) for i in range(0, len(padded), block)]
    return np.concatenate(parts)[: len(x)]

  return call


def _whiten(folder: pathlib.Path, raw: View, white, keys: dict[str, str], dim: int) -> View:
  apply = whitener(white)
  if jax.process_index() == 0:
    with StoreWriter(folder, dim, {}) as writer:
      for video_id, stored in keys.items():
        if video_id in raw and stored not in writer.done:
          writer.append(stored, apply(raw[video_id]))
  parallel.barrier("whitened")
  view = Store(folder).view(keys)
  view.rejected = raw.rejected
  return view


def settings_digest(config) -> str:
  """A hash of all that decides what the raw features of a file are."""
  ignored = ("threads", "buffer", "whiten", "whiten_frames", "whitening")
  settings = {k: v for k, v in config.to_dict().items() if k not in ignored}
  if config.weights:
    settings["weights"] = origin.file_digest(config.weights)
  return origin.digest(VERSION, settings)
