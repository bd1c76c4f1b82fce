"""Augmentation of clips, uint8 [T, H, W, 3], on the CPU.

`recipes` are the transforms of the systems, `steps` what they are made of (a crop, a jitter, one
after the other, sometimes, for each frame), `geometry` and `colour` the functions of pixels and
parameters below them. Anything callable as `(frames, rng) -> frames` is a step, the edits of
`edits` too.
"""

from data_pipelines.augment.recipes import (
  centre_view,
  contrastive_video,
  corrflow,
  corrflow_bottleneck,
  fine_tune,
  fine_tune_provico,
  linear,
  linear_video,
  moco,
  side_views,
)
from data_pipelines.augment.steps import Transform

__all__ = [
  "Transform", "centre_view", "contrastive_video", "corrflow", "corrflow_bottleneck", "fine_tune",
  "fine_tune_provico", "linear", "linear_video", "moco", "side_views",
]  # fmt: skip
