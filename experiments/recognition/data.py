"""Views of videos: what a representation is learned from, and what it is judged by."""

import collections
import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from data_pipelines import clips, sample
from data_pipelines.augment import recipes
from data_pipelines.frames import BadVideos
from data_pipelines.records import Dataset
from experiments import origin, registry
from experiments.clip_runs import cpus
from vssl_jax import log
from vssl_jax.types import ConfigError

# kind of views -> what a model of it takes
INPUTS = {"frames": "image", "pictures": "image", "clips": "clip"}
RECIPES = {name: getattr(recipes, name) for name in (
    "fine_tune", "fine_tune_provico", "linear", "linear_video")}
KEPT = 2**30  # bytes of decoded test views that are kept for the next row of a table
THREADS = min(16, cpus())  # that decode test views


def reader(config, memory: float = 0.0) -> clips.Reader:
  """Training views of a video, from the group `views` of a config.

  `memory` is how many GiB of decoded videos are kept.

  "frames": two crops of a frame and `candidates` other frames, [2 + F, 1, H, W, 3]. "clips":
  `clips` clips of `frames` frames each, [N, T, H, W, 3]; "pictures" likewise, of one frame. They
  are augmented as for contrast, or by one of `RECIPES`, `recipe`.
  """
  if config.name not in INPUTS:
    raise ConfigError(f"views.name={config.name!r}{registry.nearest(config.name, INPUTS)}")
  if config.size < 8 or config.short_side < 0:
    raise ConfigError(f"views.size={config.size} should be at least 8, and views.short_side="
                      f"{config.short_side} at least 0")
  augment = config.augment.to_dict()
  if config.name == "frames":
    if config.candidates < 0:
      raise ConfigError(f"views.candidates={config.candidates} should be at least 0")
    choose = functools.partial(sample.query_and_candidates, n=config.candidates,
                               distinct=config.distinct)
    make = recipes.moco
  else:
    _check_clips(config, "views")
    if config.name == "pictures" and config.frames != 1:
      raise ConfigError(f"views.frames={config.frames} should be 1 with views.name='pictures'; "
                        "views.clips says how many of a video")
    choose = functools.partial(sample.clips, n_clips=config.clips, n_frames=config.frames,
                               stride=config.stride, fps=config.fps or None, mode="random",
                               short=_short(config, "views"))
    make = recipes.contrastive_video
  if config.recipe != "contrast":
    if config.recipe not in RECIPES:
      raise ConfigError(f"views.recipe={config.recipe!r}"
                        f"{registry.nearest(config.recipe, ['contrast', *RECIPES])}")
    make = RECIPES[config.recipe]
  try:
    transform = make(config.size, **augment)
  except (TypeError, ValueError) as e:
    raise ConfigError(f"views.augment: {e}") from e
  return clips.Reader(choose, transform, short_side=config.short_side or None,
                      kept=clips.Kept(int(memory * 2**30)) if memory else None)


def shape(config) -> tuple[int, ...]:
  """Of one example of `reader`."""
  side = config.size
  if config.name == "frames":
    return (2 + config.candidates, 1, side, side, 3)
  return (config.clips, config.frames, side, side, 3)


def input_shape(config) -> tuple[int, ...]:
  """Of one row of what a model takes."""
  return shape(config)[2:] if INPUTS[config.name] == "image" else shape(config)[1:]


def _check_clips(config, key: str) -> None:
  for name in ("clips", "frames", "stride"):
    if config[name] < 1:
      raise ConfigError(f"{key}.{name}={config[name]} should be at least 1")
  if config.fps < 0:
    raise ConfigError(f"{key}.fps={config.fps} should be at least 0")


def _short(config, key: str) -> str:
  """What fills a clip that a video is too short for."""
  if config.frames == 1:
    return "hold"  # a frame fits into any video
  if config.short not in sample.SHORT:
    raise ConfigError(f"{key}.short={config.short!r}{registry.nearest(config.short, sample.SHORT)}")
  return config.short


def check_classes(dataset: Dataset, config, key: str) -> None:
  """Raises ConfigError where a method that has `classes` can't learn, or tell, those of a data set.

  Args:
    key: of the group that names the data set, for the message.
  """
  known = config.method.args.get("classes")
  if known is None:
    return
  if len(dataset.classes) > known:
    raise ConfigError(f"{key}: {dataset.name} {dataset.split} has {len(dataset.classes)} classes; "
                      f"set method.args.classes={len(dataset.classes)} instead of {known}")
  if not any(record.label >= 0 for record in dataset.records):
    raise ConfigError(f"{key}: no video of {dataset.name} {dataset.split} has a label; a "
                      f"{config.method.name} needs some")


class NoLabels(ConfigError):
  """No video has a label."""


class Views:
  """Test views of the labelled videos of a data set: clips evenly spread, the middle of each.

  Small sets are decoded once and kept.

  Attributes:
    dataset: those with a label; with `by_label` False all, each labelled by its number.
    skipped: how many have none.
    bad: ids of videos that can't be read.
    settings: all that decides what views a video has.
  """

  def __init__(self, dataset: Dataset, config, views, key: str, by_label: bool = True):
    """`config`: the group `views` of an evaluation; `views`: that of training, `key`: for errors.

    Raises:
      ConfigError: an impossible setting, or no record has a label.
    """
    _check_clips(config, key)
    side, short = config.size, config.short_side or config.size
    if not 8 <= side <= short or config.crops < 1:
      raise ConfigError(f"{key}.size={side} should be at least 8 and at most {key}.short_side="
                        f"{config.short_side}, and {key}.crops={config.crops} at least 1")
    image = INPUTS[views.name] == "image"
    if image and config.frames != 1:
      raise ConfigError(f"{key}.frames={config.frames}: this model takes pictures; set it to 1, "
                        f"and {key}.clips to how many of each video")
    if not image and (config.frames != views.frames or side % 16):
      raise ConfigError(f"{key}.frames={config.frames} should be views.frames={views.frames}, and "
                        f"{key}.size={side} a multiple of 16: exported models take such clips")
    if not by_label and config.clips * config.crops < 2:
      raise ConfigError(f"{key}.clips={config.clips}: a video needs two views or more to find "
                        "itself by")
    known = [record for record in dataset.records if record.label >= 0] if by_label else [
        dataclasses.replace(record, label=i) for i, record in enumerate(dataset.records)]
    twice = [id_ for id_, n in collections.Counter(r.id for r in known).items() if n > 1]
    if twice:
      raise ConfigError(f"{key}: the id {twice[0]!r} occurs twice in {dataset.name} "
                        f"{dataset.split}")
    if not known:
      raise NoLabels(f"{key}: no video of {dataset.name} {dataset.split} has a label")
    self.skipped, self.bad = len(dataset.records) - len(known), BadVideos(log.write)
    self.dataset = dataclasses.replace(dataset, records=known)
    choose = functools.partial(sample.clips, n_clips=config.clips, n_frames=config.frames,
                               stride=config.stride, fps=config.fps or None,
                               short=_short(config, key))
    transform = (recipes.side_views(side, short_side=short, n=config.crops) if config.crops > 1
                 else recipes.centre_view(side, short_side=short))
    self._read, self._kept = clips.Reader(choose, transform, short), []
    rows = len(known) * config.clips * config.crops
    self._keep = rows * config.frames * side**2 * 3 <= KEPT
    self._image = image
    self.settings = {name: x for name, x in config.to_dict().items()
                     if not name.startswith("train_")} | {"image": image}

  @functools.cached_property
  def digests(self) -> dict[str, str]:
    """Id -> what the video shows, as of `origin.video_digest`."""
    return {record.id: origin.video_digest(record) for record in self.dataset.records}

  def __iter__(self) -> Iterator[tuple[str, int, np.ndarray]]:
    """id, label and views, uint8 [V, H, W, 3] or [V, T, H, W, 3], of each readable video."""
    if self._kept:
      yield from self._kept
      return
    kept = []
    for x in self._decoded(self.dataset):
      if not x["ok"]:
        self.bad.add(x)
        continue
      row = self._row(x)
      if self._keep:
        kept.append(row)
      yield row
    self._kept = kept

  def only(self, ids: set[str]) -> Iterator[tuple[str, int, np.ndarray]]:
    """The same of some videos alone."""
    if self._kept:
      yield from (row for row in self._kept if row[0] in ids)
      return
    some = [record for record in self.dataset.records if record.id in ids]
    for x in self._decoded(dataclasses.replace(self.dataset, records=some)):
      if x["ok"]:
        yield self._row(x)
      else:
        self.bad.add(x)

  def _decoded(self, dataset: Dataset) -> Iterator[dict]:
    return clips.in_order(dataset, self._read, threads=THREADS, buffer=2 * THREADS)

  def _row(self, x) -> tuple[str, int, np.ndarray]:
    frames = x["found"]["frames"]  # [V, T, H, W, 3], or with crops [V, crops, T, H, W, 3]
    frames = frames.reshape(-1, *frames.shape[-4:])
    return x["id"], int(x["found"]["label"]), frames[:, 0] if self._image else frames


def pixels(inputs: dict[str, np.ndarray], cells: int = 4) -> dict[str, np.ndarray]:
  """The floor: mean colours of a grid of cells of each frame, nothing learned.

  Args:
    inputs: `{"image": uint8 [B, H, W, 3]}` or `{"clip": uint8 [B, T, H, W, 3]}`.

  Returns:
    `{"features": float32 [B, T cells cells 3]}`, and the same as "video".
  """
  (x,) = inputs.values()
  h, w = (n // cells * cells for n in x.shape[-3:-1])
  x = x[..., :h, :w, :].reshape(len(x), -1, cells, h // cells, cells, w // cells, 3)
  x = x.mean((3, 5), dtype=np.float32).reshape(len(x), -1) / 255
  return {"features": x, "video": x}
