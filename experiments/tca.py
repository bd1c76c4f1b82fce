r"""TCA: near-duplicate and incident video retrieval.

  python -m experiments.run --config=experiments/tca.py                the embedded data set
  python -m experiments.run --config=experiments/tca.py:label_free     the same without labels
  python -m experiments.run --config=experiments/tca.py:folder --config.data.root=DIR
  python -m experiments.run --config=experiments/tca.py:vcdb           the paper's recipe
  python -m experiments.run --config=experiments/tca.py:comparator     learned similarity of frames
  python -m experiments.run --config=experiments/tca.py:visil          the same of frame regions

A run is evaluated on fivr, cc_web_video or evve, which have nothing to train on:

  python -m experiments.run --mode=eval --workdir=RUN --config=experiments/tca.py:fivr \
                            --config.data.root=DIR

Other aggregators in the Transformer's place: --config.method.args.aggregator=gru (or lstm, netvlad,
nextvlad). The authors' checkpoints: --config.method.weights=FILE, and --config.train.steps=0 to
evaluate and export them as they are.

The embedded default, :comparator and :visil render their videos, use a small backbone with random
weights, and take a few minutes on two CPU cores.

  python -m experiments.sweep --config=experiments/tca.py [--sweep=loss] [--seeds=3]

trains the paper's ablations: its tables, and which of its directions hold here; see `sweep`.
"""

import ml_collections
from ml_collections import config_dict

from vssl_jax.types import ConfigError


def get_config(preset: str = "") -> ml_collections.ConfigDict:
  """The config of a preset; "" is the embedded default."""
  presets = {"": embedded, "label_free": label_free, "folder": folder, "vcdb": vcdb,
             "comparator": comparator, "visil": visil, "fivr": fivr, "cc_web_video": cc_web_video,
             "evve": evve}
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
      whitening="",  # the whitening.npz of another run, instead of fitting one
      seed=0,
      dtype="float32",
      block=32,  # frames at a time through the backbone
      threads=2,  # that decode
      buffer=4,  # videos decoded ahead
  )
  c.pairs = dict(length=64, negatives=16, sampling="window")
  c.method = dict(name="tca", args=dict(
      aggregator="transformer", loss="circle", tau=0.07, gamma=256.0, margin=0.25, bank_size=4096,
      momentum=0.0, positive_gradient=False, filled_only=False, dtype="float32",
      level="video", self_similarity=0.0, hard_negative=0.0, self_keep=0.7, frame_weights=False))
  c.method.args.aggregators = dict(
      transformer=dict(layers=1, heads=8, feed_forward=2048, dropout=0.2),
      netvlad=dict(clusters=256, output=1024, dropout=0.5, reduction=8),
      nextvlad=dict(clusters=64, expansion=2, groups=8, output=1024, dropout=0.5, reduction=8),
      lstm=dict(layers=2, hidden=1024, dropout=0.2),
      gru=dict(layers=2, hidden=1024, dropout=0.2))
  c.method.weights = ""  # the authors' checkpoint (.pth, .safetensors) to begin with; "" for random
  c.optim = dict(learning_rate=1e-5, schedule="cosine", steps_per_update=1, warmup=0,
                 weight_decay=1e-4, coupled=True, clip=0.0)
  c.train = dict(steps=1000, batch=64, log_every=10, eval_every=0, checkpoint_every=500, keep=2,
                 threads=2, buffer=64)
  c.evals = dict(retrieval=dict(name="retrieval", args=dict(
      similarities=("cosine", "chamfer", "symmetric_chamfer"), block=256, dtype="float32",
      shortlist=0.02, memory=2.0)))
  c.embed = dict(batch=64)  # videos at a time in evaluation and extraction
  return c


def embedded(c: ml_collections.ConfigDict) -> None:
  """Rendered videos and a small random backbone; a demonstration that runs anywhere."""
  c.data.name = "procedural"
  c.data.update(seed=0, size=128, fps=8, n_train_families=100, n_train_edits=2, n_background=300,
                n_queries=24, n_distractors=100, difficulty=1.0)
  c.features.update(backbone="resnet18", width=32, short_side=128, crop=112, whiten=192)
  c.pairs.update(length=16, negatives=4)
  c.method.args.bank_size = 1024
  small_aggregators(c.method.args.aggregators)
  c.optim.update(learning_rate=3e-4)
  c.train.update(steps=500, batch=32, eval_every=125, checkpoint_every=125)


def comparator(c: ml_collections.ConfigDict) -> None:
  """The embedded videos, compared by a network that is trained on matrices of whitened frames.

  Margin and form are ViSiL's (tca spec 10). Its learning rate of 1e-5 is for hundreds of thousands
  of steps; here there are some hundreds.
  """
  embedded(c)
  c.method = dict(name="comparator", args=dict(
      regions=1, margin=0.5, regulariser=1.0, rescale=False, hardest=True, symmetric=False,
      attention=False), weights="")
  c.optim.update(learning_rate=1e-3, weight_decay=0.0)
  c.train.eval_every = 250


def visil(c: ml_collections.ConfigDict) -> None:
  """ViSiL: the same with several vectors a frame; 2 x 2 here, 3 x 3 with features.crop=224."""
  comparator(c)
  c.features.update(pooling="l3_imac", short_side=136, crop=136, whiten=128)
  c.method.args.update(regions=4)


def label_free(c: ml_collections.ConfigDict) -> None:
  """The embedded data set without its labels, in the manner of S2VS (beyond the paper)."""
  embedded(c)
  c.data.update(labels=False, n_edits=2)
  c.method.args.update(loss="info_nce", frame_weights=True, hard_negative=1.0)


def folder(c: ml_collections.ConfigDict) -> None:
  """Any folder of videos, without labels: positives are edits of the same video."""
  c.data.name = "folder"
  c.data.root = config_dict.placeholder(str)
  c.data.queries = ""  # a folder or list of videos to look up; "" for the held-out ones
  c.data.n_edits = 4
  c.data.strength = ""  # or "strong": edits in the manner of S2VS
  c.data.n_eval_edits = 3
  c.data.max_videos = 0  # 0 for all; a few, to try things out
  c.data.holdout = 0.2
  c.data.seed = 0
  c.data.max_bad_fraction = 0.2
  c.features.update(backbone="resnet18", width=32, short_side=128, crop=112, whiten=64)
  c.pairs.update(length=16, negatives=1)
  c.method.args.bank_size = 512
  small_aggregators(c.method.args.aggregators)
  c.optim.update(learning_rate=3e-4)
  c.train.update(steps=400, batch=32, eval_every=100, checkpoint_every=100)


def small_aggregators(aggregators: ml_collections.ConfigDict) -> None:
  """Sizes for small features and few videos."""
  aggregators.transformer.update(heads=4, feed_forward=256)
  aggregators.netvlad.update(clusters=16, output=128)
  aggregators.nextvlad.update(clusters=16, groups=4, output=128)
  aggregators.lstm.update(hidden=128)
  aggregators.gru.update(hidden=128)


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


def fivr(c: ml_collections.ConfigDict) -> None:
  """FIVR-200K or FIVR-5K, to evaluate on (tca spec 11)."""
  _evaluation(c, "fivr")
  c.data.split = "200k"  # or "5k"
  c.data.labels = "annotation"  # or "annotation_official_latest", see docs/data/annotations.md
  c.data.hard = False  # without the easy duplicates
  c.data.micro = False  # micro-AP too


def cc_web_video(c: ml_collections.ConfigDict) -> None:
  """CC_WEB_VIDEO, to evaluate on."""
  _evaluation(c, "cc_web_video")


def evve(c: ml_collections.ConfigDict) -> None:
  """EVVE, to evaluate on."""
  _evaluation(c, "evve")


def _evaluation(c: ml_collections.ConfigDict, name: str) -> None:
  c.data.name = name
  c.data.root = config_dict.placeholder(str)
  c.data.annotations = ""  # the folder of the lists; "" for `annotations` below the root
  c.data.allow_missing = True  # most have lost some videos; the report says how many
  c.features.weights = "resnet50.safetensors"


def sweep(name: str = ""):
  """The paper's ablation tables (tca spec 12.2), each varying one thing of the config given.

  Tables: aggregator, feature, loss, bank, momentum, similarity, `details` on what paper and
  released code disagree about, and `beyond`: options that the paper doesn't have. Expected are the
  directions that the paper reports; its numbers are of other data.
  """
  from experiments.ablation import Table, pick

  arg = "method.args."
  triplet = {f"{arg}loss": "triplet", f"{arg}margin": 0.5}  # ViSiL's margin

  def info_nce(tau):
    return {f"{arg}loss": "info_nce", f"{arg}tau": tau}

  return pick([
      Table("aggregator", "What makes a video of its frames", {
          a: {f"{arg}aggregator": a} for a in ("netvlad", "nextvlad", "lstm", "gru", "transformer")
      }, [("transformer", ">", a) for a in ("gru", "lstm", "netvlad")]),
      Table("feature", "Frame descriptors", {
          p: {"features.pooling": p} for p in ("mac", "imac", "l3_irmac")
      }, [("l3_irmac", ">", "imac")]),
      Table("loss", "Losses", {
          "softmax (tau 1)": info_nce(1.0), "info_nce, tau 0.07": info_nce(0.07),
          "info_nce, tau 1/256": info_nce(1 / 256),
          "circle, gamma 256": {f"{arg}loss": "circle", f"{arg}gamma": 256.0}, "triplet": triplet,
      }, [("circle, gamma 256", ">", "info_nce, tau 0.07"),
          ("circle, gamma 256", ">", "info_nce, tau 1/256"),
          ("info_nce, tau 1/256", ">", "info_nce, tau 0.07")]),
      Table("bank", "Size of the memory bank", {
          "triplet, no bank": {**triplet, f"{arg}bank_size": 0},
          **{str(n) if n else "no bank": {f"{arg}bank_size": n} for n in (0, 256, 1024, 4096)},
      }, [("256", ">", "triplet, no bank"), ("4096", ">", "triplet, no bank"),
          ("4096", ">", "256")]),
      Table("momentum", "Momentum of the key encoder", {
          str(m): {f"{arg}momentum": m} for m in (0.0, 0.9, 0.99, 0.999)
      }, [("0.0", ">", m) for m in ("0.9", "0.99", "0.999")]),
      Table("similarity", "Similarity of two videos", {"as configured": {}},
            [("chamfer", ">", "symmetric_chamfer"), ("symmetric_chamfer", ">", "cosine")],
            by="similarity"),
      Table("details", "Where paper and released code differ, and sizes", {
          "as configured": {}, "gradient through the positive": {f"{arg}positive_gradient": True},
          "only filled rows of the bank": {f"{arg}filled_only": True},
          "dropout 0.5": {f"{arg}aggregators.transformer.dropout": 0.5},
          "two layers": {f"{arg}aggregators.transformer.layers": 2}}),
      Table("beyond", "Options beyond the paper", {
          "as configured": {}, "frame weights": {f"{arg}frame_weights": True},
          "hard negatives": {f"{arg}hard_negative": 1.0},
          "self-similarity": {f"{arg}self_similarity": 1.0},
          "all three": {f"{arg}frame_weights": True, f"{arg}hard_negative": 1.0,
                        f"{arg}self_similarity": 1.0}}),
  ], name)
