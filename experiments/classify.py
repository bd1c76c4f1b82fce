r"""Fine-tuning and linear evaluation: a backbone of any run, or of others, learns classes.

  python -m experiments.run --config=experiments/classify.py \
                            --config.method.weights=RUN/export/backbone.safetensors

fine-tunes what experiments/provico.py left in RUN, on the embedded data set; without weights it
trains from scratch. --config.method.args.frozen=True trains the last layer alone.

  python -m experiments.run --config=experiments/classify.py:ucf101 --config.data.root=UCF101 \
                            --config.method.weights=FILE

FILE may be a run's export/backbone.safetensors, or a checkpoint of the authors, MoCo, torchvision
or PySlowFast. Likewise :hmdb51 and :ucf101_frames (a network of pictures on each frame); with a
frozen backbone :imagenet_linear, :kinetics_linear, :ucf101_linear and :hmdb51_linear; :folder for
any folder with one of videos for each class. Another official split:

  --config.data.split=train2 --config.evals.top1.data.test=test2

  python -m experiments.sweep --config=experiments/classify.py:ucf101 --sweep=splits ...

trains on all three, of :ucf101_linear, :hmdb51 and :hmdb51_linear likewise; --sweep=start compares
scratch, fine-tuned and frozen; see `sweep`.
"""

import ml_collections
from ml_collections import config_dict

from vssl_jax.types import ConfigError


def get_config(preset: str = "") -> ml_collections.ConfigDict:
  """The config of a preset; "" is the embedded default."""
  presets = {"": embedded, "folder": folder, "ucf101": ucf101, "hmdb51": hmdb51,
             "ucf101_frames": ucf101_frames, "imagenet_linear": imagenet_linear,
             "kinetics_linear": kinetics_linear, "ucf101_linear": ucf101_linear,
             "hmdb51_linear": hmdb51_linear}
  if preset not in presets:
    raise ConfigError(f"experiments/classify.py has no preset {preset!r}; there are: "
                      f"{', '.join(p for p in presets if p)}, and none for the embedded default")
  config = base()
  presets[preset](config)
  return config


def base() -> ml_collections.ConfigDict:
  """What all presets share: the convention for fine-tuning on small sets (provico spec 11.3)."""
  c = ml_collections.ConfigDict()
  c.workflow = "recognition"
  c.seed = 0
  c.data = dict(
      name="", root="", split="",
      cache_dir="",  # of what is drawn; "" is vssl_jax below the user's cache folder
      max_bad_fraction=0.02,  # of the training videos; more unreadable ones stop the run
      memory=1.0,  # GiB for training videos that are decoded once and kept, as many as fit
  )
  c.views = dict(
      name="clips", clips=1, frames=8, stride=8,
      fps=30.0,  # frames a second that the stride counts in; 0 for the video's own frames
      short="hold",  # a clip that a video is too short for: its last frame again, or "loop"
      size=224,
      short_side=0,  # frames are decoded at; 0 for their own size
      recipe="fine_tune_provico",  # a function of data_pipelines/augment/recipes.py
      augment=dict(short_side=(256, 320), jitter=(0.4, 0.4, 0.4, 0.1), jitter_p=0.8, grey_p=0.2,
                   flip_p=0.5))
  c.method = dict(name="classifier", args=dict(
      classes=config_dict.placeholder(int), backbone="slow_r50", width=64, dropout=0.5,
      frozen=False,  # the last layer alone
      eval_norms=True,  # of a frozen backbone
      head_first=0, groups=1, dtype="float32"))
  c.method.weights = ""  # of the backbone to begin with
  c.optim = dict(optimiser="sgd", learning_rate=0.01, momentum=0.9, schedule="cosine",
                 steps_per_update=1, warmup=0, weight_decay=0.0, coupled=True, clip=0.0,
                 milestones=(), factor=0.1,
                 head_first=0)  # steps in which the last layer alone has an optimiser, as above
  c.train = dict(steps=0, batch=64, log_every=10, eval_every=0, checkpoint_every=500, keep=2,
                 threads=2, buffer=64,
                 workers=0)  # processes that read; -1 for as many as there are CPUs
  c.embed = dict(batch=4)  # videos at a time in evaluation
  c.evals = ml_collections.ConfigDict()
  return c


def classification(test: str, views=None, **options) -> dict:
  """The evaluation, on a part of the run's own data set: 10 clips by 3 crops (provico spec 11.1).

  A `name` in `options` is of another data set.
  """
  return dict(name="classification", data=dict(name="", root="", train="", test=test) | options,
              views=dict(clips=10, frames=8, stride=8, fps=30.0, short="hold", size=256,
                         short_side=256, crops=3) | (views or {}), args={})


def embedded(c: ml_collections.ConfigDict) -> None:
  """Rendered videos of ten motions, those of experiments/provico.py, as is the network."""
  c.data.update(name="procedural", split="unlabelled", label="motion", shots=True, plain=True,
                seed=0, size=64, fps=8, seconds=(6.0, 8.0), n_train_families=100, n_train_edits=0,
                n_background=300, n_queries=0, n_distractors=300, difficulty=0.0)
  c.views.update(frames=8, stride=2, fps=0.0, size=32)
  c.views.augment.update(short_side=(34, 44), flip_p=0.0)  # left and right are two classes
  c.method.args.update(classes=10, backbone="r3d_18", width=8, dropout=0.0)
  c.optim.update(optimiser="adam", learning_rate=1e-3)
  c.train.update(steps=300, batch=32, checkpoint_every=100)
  c.embed.batch = 64
  c.evals.top1 = classification("eval", dict(clips=3, frames=8, stride=2, fps=0.0, size=32,
                                             short_side=36, crops=1))


def folder(c: ml_collections.ConfigDict) -> None:
  """Any folder of videos, one folder a class; a part is held out."""
  c.data.update(name="folder", root=config_dict.placeholder(str), split="train", by_class=True,
                holdout=0.2, holdout_seed=0, max_bad_fraction=0.2)
  c.views.update(size=112, short_side=128)
  c.views.augment.update(short_side=(128, 160))
  c.method.args.update(backbone="r3d_18")
  c.train.update(steps=1000, batch=16, checkpoint_every=100)
  c.optim.learning_rate = 0.0025
  c.evals.top1 = classification("heldout", dict(size=128, short_side=128))
  for key in ("holdout", "holdout_seed"):
    c.evals.top1.data[key] = c.data.get_ref(key)


def ucf101(c: ml_collections.ConfigDict) -> None:
  """UCF101, split 1: 200 epochs of 9,537 videos."""
  _official(c, "ucf101", classes=101, steps=200 * 9537 // 64)


def hmdb51(c: ml_collections.ConfigDict) -> None:
  """HMDB51, split 1: 200 epochs of 3,570 videos."""
  _official(c, "hmdb51", classes=51, steps=200 * 3570 // 64)


def _official(c, name: str, classes: int, steps: int) -> None:
  c.data.update(name=name, root=config_dict.placeholder(str), split="train1", allow_missing=True)
  # That of slow_r50, trained on Kinetics; with another backbone set 0.5 (provico spec 11.3).
  c.method.args.update(classes=classes, dropout=0.8)
  c.train.steps = steps
  c.evals.top1 = classification("test1")
  _by_all_cpus(c)


def _by_all_cpus(c) -> None:
  """Long training: as many processes read as there are CPUs, and none keeps videos."""
  c.train.workers, c.data.memory = -1, 0.0


def ucf101_frames(c: ml_collections.ConfigDict) -> None:
  """UCF101 by the features of frames (cycle_contrast spec 8.1).

  An epoch is five clips of each video. The last layer is trained alone for 5 epochs, then all for
  16, of which the 6th, 10th and 14th lower the rate.
  """
  epoch = 5 * 9537 // 32
  _official(c, "ucf101", classes=101, steps=21 * epoch)
  c.views.update(frames=32, stride=1, fps=16.0, short="loop", recipe="fine_tune")
  c.views.augment = dict(area=(0.08, 1.0), jitter=(0.4, 0.4, 0.4, 0.2), flip_p=0.5)
  c.method.args.update(backbone="resnet50", dropout=0.9, head_first=5 * epoch, groups=4)
  c.optim.head_first = c.method.args.get_ref("head_first")
  c.optim.update(optimiser="adam", learning_rate=1e-4, schedule="milestones", factor=0.3,
                 milestones=tuple((5 + n) * epoch for n in (6, 10, 14)))
  c.train.batch = 32
  c.evals.top1.views.update(frames=32, stride=1, fps=16.0, short="loop", size=224, crops=1)


def imagenet_linear(c: ml_collections.ConfigDict) -> None:
  """ImageNet, a linear classifier of a frozen network of pictures (cycle_contrast spec 7)."""
  epoch = -(-1_281_167 // 256)
  c.data.update(name="imagenet", root=config_dict.placeholder(str), split="train")
  c.views.update(name="pictures", frames=1, stride=1, fps=0.0, recipe="linear")
  c.views.augment = dict(area=(0.08, 1.0), flip_p=0.5)
  c.method.args.update(classes=1000, backbone="resnet50", dropout=0.0, frozen=True)
  c.optim.update(learning_rate=30.0, schedule="milestones",
                 milestones=(60 * epoch, 80 * epoch))
  c.train.update(steps=100 * epoch, batch=256, checkpoint_every=epoch)
  _by_all_cpus(c)
  c.embed.batch = 128
  c.evals.top1 = classification("val", dict(clips=1, frames=1, stride=1, fps=0.0, size=224,
                                            crops=1))


def kinetics_linear(c: ml_collections.ConfigDict) -> None:
  """Kinetics-400, a linear classifier of a frozen network on clips (provico spec 11.1)."""
  epoch = 240_000 // 512
  c.data.update(name="kinetics400", root=config_dict.placeholder(str), split="train",
                allow_missing=True)
  c.views.update(recipe="linear_video")
  c.views.augment = dict(short_side=(256, 320), flip_p=0.5)
  c.method.args.update(classes=400, dropout=0.0, frozen=True)
  c.optim.update(learning_rate=4.0, warmup=8 * epoch)
  c.train.update(steps=60 * epoch, batch=512, checkpoint_every=epoch)
  _by_all_cpus(c)
  c.evals.top1 = classification("val")


def ucf101_linear(c: ml_collections.ConfigDict) -> None:
  """UCF101, split 1, a linear classifier of a frozen network on clips (provico spec 11.2)."""
  ucf101(c)
  _linear(c, 9537)


def hmdb51_linear(c: ml_collections.ConfigDict) -> None:
  """HMDB51, likewise."""
  hmdb51(c)
  _linear(c, 3570)


def _linear(c, videos: int) -> None:
  """100 epochs. The rate is 1 * batch / 256; the others that the field tries are 0.1, 5 and 10."""
  c.views.update(recipe="linear_video")
  c.views.augment = dict(short_side=(256, 320), flip_p=0.5)
  c.method.args.update(dropout=0.0, frozen=True)
  c.optim.update(learning_rate=0.5, warmup=8 * videos // 128)
  c.train.update(steps=100 * videos // 128, batch=128)


LINEAR_RATE = 25  # of a last layer alone, over fine-tuning's: provico spec 11.2 over 11.3, a clip


def sweep(name: str = "", preset: str = ""):
  """What the first weights are worth, and the three official splits, of presets that have those."""
  from experiments.ablation import Table, pick

  c = get_config(preset)
  rate = c.optim.learning_rate * LINEAR_RATE
  start = Table("start", "What the run begins with", {
      "from scratch": {"method.weights": "", "method.args.frozen": False},
      "as given": {"method.args.frozen": False},
      "frozen": {"method.args.frozen": True, "method.args.dropout": 0.0,
                 "method.args.head_first": 0, "optim.head_first": 0, "optim.learning_rate": rate},
  }, [("as given", ">", "from scratch")], similarity="",
      note="Without method.weights the first two rows are the same run. The frozen row's rate is "
      f"{rate:g}, {LINEAR_RATE} times the preset's, as linear evaluation's is, which has no "
      "dropout either.")
  splits = Table("splits", "The official splits", {
      f"split {n}": {"data.split": f"train{n}", "evals.top1.data.test": f"test{n}"}
      for n in (1, 2, 3)}, similarity="", mean="mean of 3 splits",
      note="What is published is the last row; there ± is the standard deviation over splits.")
  tables = ([start] * (not c.method.args.frozen)
            + [splits] * (c.data.name in ("ucf101", "hmdb51")))
  if not tables:
    raise ConfigError(f"experiments/classify.py:{preset} has no tables")
  return pick(tables, name or tables[0].name)
