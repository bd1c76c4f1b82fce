"""Composes videos of shots: scenes, stock shots and parts of them, then edits the whole."""

import dataclasses

import numpy as np

from data_pipelines import edits
from data_pipelines.render.scene import SceneSpec, render_scene
from data_pipelines.render.stock import stock_shot, stock_truth
from data_pipelines.render.truth import Truth, join_truth, take_truth


@dataclasses.dataclass(frozen=True)
class StockSpec:
  """A stock shot: its pool's seed, its number, and its form (see `stock_shot`)."""

  seed: int
  index: int
  height: int
  width: int
  n_frames: int
  fps: float


@dataclasses.dataclass(frozen=True)
class Shot:
  """Frames start to stop (excluded) of a scene or a stock shot."""

  source: SceneSpec | StockSpec
  start: int
  stop: int

  @property
  def n_frames(self) -> int:
    return self.stop - self.start


@dataclasses.dataclass(frozen=True)
class VideoPlan:
  """How to make a video.

  Attributes:
    id: its name.
    shots: one after another.
    edit_seed: None, or the seed of the edit (`edits.random_edit`) of the whole video.
    edit_names, edit_count: which edits, and the least and largest number of them.
    crf: quality of the file.
  """

  id: str
  shots: tuple[Shot, ...]
  edit_seed: int | None = None
  edit_names: tuple[str, ...] = ()
  edit_count: tuple[int, int] = (0, 0)
  crf: int = 23


def render_source(source: SceneSpec | StockSpec) -> tuple[np.ndarray, Truth]:
  """All frames uint8 [T, H, W, 3] of a scene or a stock shot, and their truth."""
  if isinstance(source, SceneSpec):
    return render_scene(source)
  shape = (source.n_frames, source.height, source.width)
  return stock_shot(**dataclasses.asdict(source)), stock_truth(source.index, *shape)


def render_video(plan: VideoPlan, rendered: dict) -> tuple[np.ndarray, Truth | None]:
  """Draws a video.

  Args:
    plan: what to draw.
    rendered: source -> what `render_source` gave; read and filled, so that copies of a video don't
      draw its scenes again.

  Returns:
    frames uint8 [T, H, W, 3]; and their truth, or None for an edited video, whose pixels and times
    no longer match it.
  """
  for shot in plan.shots:
    if shot.source not in rendered:
      rendered[shot.source] = render_source(shot.source)
  cuts = [(rendered[s.source], slice(s.start, s.stop)) for s in plan.shots]
  frames = np.concatenate([frames[cut] for (frames, _), cut in cuts])
  if plan.edit_seed is None:
    return frames, join_truth([take_truth(truth, cut) for (_, truth), cut in cuts])
  return edits.random_edit(frames, plan.edit_seed, plan.edit_count, plan.edit_names), None
