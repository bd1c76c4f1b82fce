"""TCA: near-duplicate and incident video retrieval.

  python -m experiments.run --config=experiments/tca.py                the embedded data set
  python -m experiments.run --config=experiments/tca.py:label_free     the same without labels
  python -m experiments.run --config=experiments/tca.py:folder --config.data.root=DIR
  python -m experiments.run --config=experiments/tca.py:vcdb           the paper's recipe

The embedded default renders its videos, uses a small backbone with random weights, and takes a few
minutes on two CPU cores.
"""

import ml_collections
from ml_collections import config_dict

from vssl_jax.types import ConfigError


def get_config(preset: str = "") -> ml_collections.ConfigDict:
  """The config of a preset: "" (embedded), "label_free", "folder" or "vcdb"."""
  presets = {"": embedded, "label_free": label_free, "folder": folder, "vcdb": vcdb}
  if preset not in presets:
    raise ConfigError(f"experiments/tca.py has no preset {preset!r}; there are: "
                      f"{', '.join(p for p in presets if p)}, and none for the embedded default")
  config = base()
  presets[preset](config)
  return config


def base() -> ml_collections.ConfigDict:
  """What all presets share; the values are the paper's where it states them (tca spec 13)."""
  c = ml_collections.ConfigDict()
  c.workflow = "retrieval"
  c.seed = 0
  c.data = dict(
      name="",
      cache_dir="",  # "" is vssl_jax below the user's cache folder
      max_bad_fraction=0.02,  # of the training videos; more unreadable ones stop the run
  )
  c.features = dict(
      backbone="resnet50",
      width=64,
      weights="",  # a .safetensors or .pth file with torchvision names; "" for random weights
      pooling="l3_irmac",
      short_side=256,
      crop=224,
      fps=1.0,  # frames a second of video
      max_frames=0,  # of a video; 0 for all
      parity=False,  # frame indices as the released code picks them (tca spec 2.1)
      whiten=1024,  # dimensions that PCA whitening keeps
      whiten_frames=10,  # of each training video, for fitting it
      seed=0,
      dtype="float32",
      block=32,  # frames at a time through the backbone
      threads=2,  # that decode
      buffer=4,  # videos decoded ahead
  )
  c.pairs = dict(length=64, negatives=16, sampling="window")
  c.method = dict(name="tca", args=dict(
      layers=1, heads=8, feed_forward=2048, dropout=0.2, loss="circle", tau=0.07, gamma=256.0,
      margin=0.25, bank_size=4096, momentum=0.0, positive_gradient=False, filled_only=False,
      dtype="float32", level="video", self_similarity=0.0, hard_negative=0.0, self_keep=0.7,
      frame_weights=False, suppression=0.0, splice=0.0, splice_share=0.5,
      recurring=0.0))
  c.optim = dict(learning_rate=1e-5, schedule="cosine", steps_per_update=1, warmup=0,
                 weight_decay=1e-4, coupled=True, clip=0.0)
  c.train = dict(steps=1000, batch=64, log_every=10, eval_every=0, checkpoint_every=500, keep=2,
                 threads=2, buffer=64)
  c.evals = dict(retrieval=dict(name="retrieval", args=dict(
      similarities=("cosine", "chamfer", "symmetric_chamfer"), block=256)))
  c.embed = dict(batch=64)  # videos at a time in evaluation and extraction
  return c


def embedded(c: ml_collections.ConfigDict) -> None:
  """Rendered videos and a small random backbone; a demonstration that runs anywhere."""
  c.data.name = "procedural"
  c.data.update(seed=0, size=128, fps=8, n_train_families=100, n_train_edits=2, n_background=300,
                n_queries=24, n_distractors=100, difficulty=1.0)
  c.features.update(backbone="resnet18", width=32, short_side=128, crop=112, whiten=192)
  c.pairs.update(length=16, negatives=4)
  c.method.args.update(heads=4, feed_forward=256, bank_size=1024)
  c.optim.update(learning_rate=3e-4)
  c.train.update(steps=500, batch=32, eval_every=125, checkpoint_every=125)


def label_free(c: ml_collections.ConfigDict) -> None:
  """The embedded data set without its labels, in the manner of S2VS (beyond the paper)."""
  embedded(c)
  c.data.update(labels=False, n_edits=2)
  c.method.args.update(loss="info_nce")


def folder(c: ml_collections.ConfigDict) -> None:
  """Any folder of videos, without labels: positives are edits of the same video."""
  c.data.name = "folder"
  c.data.root = config_dict.placeholder(str)
  c.data.queries = ""  # a folder or list of videos to look up; "" for the held-out ones
  c.data.n_edits = 4
  c.data.n_eval_edits = 3
  c.data.max_videos = 0  # 0 for all; a few, to try things out
  c.data.holdout = 0.2
  c.data.seed = 0
  c.data.max_bad_fraction = 0.2
  c.features.update(backbone="resnet18", width=32, short_side=128, crop=112, whiten=64)
  c.pairs.update(length=16, negatives=1)
  c.method.args.update(heads=4, feed_forward=256, bank_size=512)
  c.optim.update(learning_rate=3e-4)
  c.train.update(steps=400, batch=32, eval_every=100, checkpoint_every=100)


def vcdb(c: ml_collections.ConfigDict) -> None:
  """The paper: VCDB core pairs, background as negatives, 40 epochs of 87 steps (tca spec 8, 9)."""
  c.data.name = "vcdb"
  c.data.root = config_dict.placeholder(str)
  c.data.annotations = ""  # the folder of vcdb.json.gz; "" for `annotations` below the root
  c.data.allow_missing = False  # go on where listed videos are missing
  c.data.database = "core"  # "all" ranks the background too
  c.data.holdout = 0.0  # share of the core's groups that are only evaluated on
  c.data.seed = 0  # of which
  c.features.weights = "resnet50.safetensors"
  c.optim.steps_per_update = 87
  c.train.update(steps=3480, eval_every=870, checkpoint_every=870)
