"""Videos drawn from a seed, with their ground truth.

`scene` draws textured objects that move, deform and hide each other before a textured ground, under
a moving camera; `texture` makes what they are painted with, `motion` says where they go, `truth`
holds and stores what is known about every frame, and `stock` draws shots that recur over unrelated
videos, such as title cards. Same arguments, same pixels, on one machine.
"""

from data_pipelines.render.motion import CAMERAS, MOTIONS
from data_pipelines.render.scene import SceneSpec, render_scene
from data_pipelines.render.stock import N_STOCK, stock_shot
from data_pipelines.render.texture import APPEARANCES
from data_pipelines.render.truth import Truth, join_truth, load_truth, save_truth

__all__ = [
  "APPEARANCES", "CAMERAS", "MOTIONS", "N_STOCK", "SceneSpec", "Truth", "join_truth",
  "load_truth", "render_scene", "save_truth", "stock_shot",
]  # fmt: skip
