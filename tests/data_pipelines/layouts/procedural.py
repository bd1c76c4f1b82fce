"""The embedded data set at its smallest; it is drawn when it is first read."""

import pathlib

SPLIT = "train"
OPTIONS = dict(
  seed=3, size=32, fps=4, seconds=(2.0, 3.0), n_train_families=2, n_train_edits=2, n_background=2,
  n_queries=2, n_per_label=(1, 1, 1, 1), n_distractors=2, processes=1, progress=False,
)  # fmt: skip


def write(root: pathlib.Path) -> None:
  """Makes the folder."""
  root.mkdir(parents=True, exist_ok=True)
