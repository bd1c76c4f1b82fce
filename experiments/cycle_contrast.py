r"""CycleContrast: representations of pictures from video, and MoCo, which it builds on.

  python -m experiments.run --config=experiments/cycle_contrast.py         the embedded data set
  python -m experiments.run --config=experiments/cycle_contrast.py:folder --config.data.root=VIDEOS
  python -m experiments.run --config=experiments/cycle_contrast.py:r2v2 --config.data.root=R2V2
                                                                           the paper's recipe

MoCo, the baseline: --config.method.args.cycle=0 --config.method.args.positives=same_frame
--config.views.candidates=0. A run is evaluated on other data with

  python -m experiments.run --mode=eval --workdir=RUN \
                            --config=experiments/cycle_contrast.py:imagenet --config.data.root=DIR

or :ucf101, :otb, :got10k. The authors' checkpoints, MoCo's and torchvision's:
--config.method.weights=FILE, and --config.train.steps=0 to evaluate and export them as they are.
Tracking with SiamFC's head of such a checkpoint (VFS's, VINCE's) instead of one that is trained:
--config.evals.released.head.weights=FILE; training it as VINCE does: evals.vince of :otb, or
`tracking(..., head=VINCE)`.

  python -m experiments.sweep --config=experiments/cycle_contrast.py [--sweep=terms] [--seeds=3]

trains without the cycle, without other frames as positives, and more; see `sweep`.
"""

import ml_collections
from ml_collections import config_dict

from vssl_jax.types import ConfigError


def get_config(preset: str = "") -> ml_collections.ConfigDict:
  """The config of a preset; "" is the embedded default."""
  presets = {"": embedded, "folder": folder, "r2v2": r2v2, "imagenet": imagenet, "ucf101": ucf101,
             "otb": otb, "got10k": got10k}
  if preset not in presets:
    raise ConfigError(f"experiments/cycle_contrast.py has no preset {preset!r}; there are: "
                      f"{', '.join(p for p in presets if p)}, and none for the embedded default")
  config = base()
  presets[preset](config)
  return config


def base() -> ml_collections.ConfigDict:
  """What all presets share; the values are the released recipe's (cycle_contrast spec 2-5)."""
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
      name="frames",  # two crops of a frame, and other frames of the video
      recipe="contrast",
      candidates=1,  # these
      distinct=False,  # other frames than the query's, as far as there are any
      size=224,
      short_side=0,  # frames are decoded at; 0 for their own size
      augment=dict(area=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), jitter_p=0.8, grey_p=0.2,
                   sigma=(0.1, 2.0), blur_p=0.5, flip_p=0.5))
  c.method = dict(name="cycle_contrast", args=dict(
      backbone="resnet50", width=64, dim=128, intra_queue=65_536, cycle_queue=81_920,
      neighbours=16_384, temperature=0.07, neighbour_temperature=0.07, momentum=0.999, cycle=0.1,
      groups=8, running="first", shuffle=True, positives="random_frame", shared=False, head="mlp",
      mask_same_video=True, filled_only=False, with_self=False, dtype="float32"))
  c.method.weights = ""  # a checkpoint of the authors, MoCo or torchvision to begin with
  c.optim = dict(optimiser="sgd", learning_rate=0.06, momentum=0.9, schedule="cosine",
                 steps_per_update=1359, warmup=0, weight_decay=1e-4, coupled=True, clip=0.0)
  c.train = dict(steps=271_800, batch=512, log_every=10, eval_every=0, checkpoint_every=1359,
                 keep=2, threads=2, buffer=64,
                 workers=0)  # processes that read; -1 for as many as there are CPUs
  c.embed = dict(batch=64)  # videos at a time in evaluation
  c.evals = ml_collections.ConfigDict()
  return c


def labelled(evaluator: str, train: str, test: str, *, name: str = "", views=None, args=None,
             **options) -> dict:
  """An evaluation on labelled videos or pictures; without a name on the run's own data set."""
  return dict(name=evaluator, data=dict(name=name, root="", train=train, test=test, **options),
              views=dict(clips=1, frames=1, stride=1, fps=0.0, size=224, short_side=256, crops=1)
              | (views or {}), args=args or {})


# VINCE's own training of SiamFC's head (the last lines of cycle_contrast spec 6.2). What isn't told
# there is a choice of ours: that the loss is the balanced one, and that a mask 5 cells wide is what
# lies within 2 cells, counted as |dx| + |dy| (both as in VINCE's code, which is without the noise);
# that only the search's box is noisy; and the noise's scales, those of GOTURN's Laplace noise.
VINCE = dict(channels=256, scale=1e-3, loss="balanced", radius=16.0, epochs=40, steps=5000,
             pairs=25, batch=256, learning_rate=0.01, drops=(10, 20, 30), shift=1 / 5, zoom=1 / 15)


def tracking(test: str, *, train: str = "", name: str = "", benchmark: str = "otb",
             matcher: str = "ridge", protocol: str = "corrected", changes=None, head=None,
             head_options=None, **options) -> dict:
  """An evaluation by tracking.

  With the "siamese" matcher SiamFC's head is trained on tracks of the part `train` first
  (cycle_contrast spec 6.2), of another data set where `head.data` names one, or read from the file
  `head.weights`; "ridge" needs neither.

  Args:
    head: settings of the head and its training that differ, for example `VINCE`.
    head_options: of the data set `head.data`.
  """
  return dict(name="tracking", data=dict(name=name, root="", train=train, test=test, **options),
              args=dict(benchmark=benchmark, matcher=matcher, protocol=protocol,
                        changes=changes or {}),
              head=dict(weights="",  # a checkpoint with a trained head, see vssl_jax/convert/siamfc
                        channels=0, scale=0.0,  # 0 for the backbone's, see models.siamfc.HEADS
                        loss="focal", radius=16.0,  # pixels around the target that are positive
                        epochs=50, pairs=1,  # of a sequence in an epoch
                        steps=0,  # of an epoch, however many pairs; 0 for as many as they make
                        batch=8, learning_rate=1e-3, final=1e-5,
                        drops=(),  # epochs after which the rate falls to a tenth, not to `final`
                        shift=0.0, zoom=0.0,  # Laplace noise of the search's box, in its sides
                        data=dict(name="", root="", **(head_options or {}))) | (head or {}))


def embedded(c: ml_collections.ConfigDict) -> None:
  """Rendered videos whose colours don't settle; a demonstration that runs anywhere in minutes.

  Crops are not jittered: what a frame's colours do not tell has to be learned from other frames.
  """
  c.data.update(name="procedural", split="unlabelled", label="appearance", seed=0, size=64, fps=8,
                seconds=(4.0, 5.0), n_train_families=100, n_train_edits=0, n_background=300,
                n_queries=0, n_distractors=300, difficulty=0.0, flicker=0.4, shots=True)
  c.views.update(size=32, distinct=True)
  c.views.augment.update(area=(0.3, 1.0), jitter_p=0.0, grey_p=0.0, blur_p=0.0)
  c.method.args.update(backbone="resnet18", width=16, dim=64, intra_queue=1024, cycle_queue=1280,
                       neighbours=256, temperature=0.1, neighbour_temperature=0.05, momentum=0.97,
                       groups=4)
  c.optim.update(optimiser="adam", learning_rate=2e-3, warmup=10, steps_per_update=1)
  c.train.update(steps=2400, batch=64, checkpoint_every=300)
  views = dict(clips=4, size=32, short_side=32)
  c.evals.neighbours = labelled("knn", "unlabelled", "eval", views=views, args=dict(ks=(20,)))
  c.evals.linear = labelled("logistic", "unlabelled", "eval", views=views)
  c.evals.retrieval = labelled("class_retrieval", "unlabelled", "eval", views=views,
                               args=dict(by_video=True, unit=True))
  c.evals.tracks = tracking("eval", n_train_families=0, n_background=0, n_distractors=20,
                            shots=False, changes=dict(exemplar=47, search=95))


def folder(c: ml_collections.ConfigDict) -> None:
  """Any folder of videos; a part is held out, and judged by class where folders are classes."""
  c.data.update(name="folder", root=config_dict.placeholder(str), split="train", holdout=0.2,
                holdout_seed=0, max_bad_fraction=0.2)
  c.views.update(size=112, short_side=128)
  c.method.args.update(backbone="resnet18", intra_queue=4096, cycle_queue=5120, neighbours=1024,
                       momentum=0.99, groups=4)
  c.optim.update(learning_rate=0.03, steps_per_update=1)
  c.train.update(steps=2000, batch=64, checkpoint_every=100)
  views = dict(clips=4, size=112, short_side=128)
  c.evals.retrieval = labelled("class_retrieval", "train", "heldout", by_class="optional",
                               views=views, args=dict(by_video=True, unit=True))
  c.evals.instances = labelled("instance_retrieval", "", "heldout", views=views)
  for evaluation in c.evals.values():
    for key in ("root", "holdout", "holdout_seed"):
      evaluation.data[key] = c.data.get_ref(key)


def r2v2(c: ml_collections.ConfigDict) -> None:
  """The paper's main result: R2V2, 200 epochs of 1,359 batches of 512 (cycle_contrast spec 3.1)."""
  c.data.update(name="r2v2", root=config_dict.placeholder(str), split="train", allow_missing=True,
                memory=0.0)
  c.train.workers = -1
  c.evals.imagenet = labelled("linear", "train", "val", name="imagenet", allow_missing=False,
                              args=dict(recipe="imagenet", classes=1000))
  c.evals.otb = tracking("otb100", name="otb", allow_missing=True)


def imagenet(c: ml_collections.ConfigDict) -> None:
  """ImageNet, to evaluate on: linear classifier, and nearest neighbours (spec 7)."""
  c.data.update(name="imagenet", root=config_dict.placeholder(str), allow_missing=False)
  c.evals.linear = labelled("linear", "train", "val", args=dict(recipe="imagenet", classes=1000))
  c.evals.neighbours = labelled("knn", "train", "val", args=dict(ks=(20, 1, 5, 10, 100, 200)))


def ucf101(c: ml_collections.ConfigDict) -> None:
  """UCF101's first split, to evaluate on: frames retrieve frames, and a linear classifier."""
  c.data.update(name="ucf101", root=config_dict.placeholder(str), allow_missing=True)
  views = dict(clips=10)
  c.evals.frames = labelled("class_retrieval", "train1", "test1", views=views)
  c.evals.videos = labelled("class_retrieval", "train1", "test1", views=views,
                            args=dict(by_video=True))
  c.evals.linear = labelled("linear", "train1", "test1", views=views,
                            args=dict(recipe="small_video", classes=101))


def otb(c: ml_collections.ConfigDict) -> None:
  """OTB-100, to evaluate on: without training, and by SiamFC, released and corrected.

  Its head is trained on GOT-10k, `--config.evals.released.head.data.root`, which both share. The
  same with the head trained as VINCE does, on a hundred times as many pairs, waits for
  `--config.evals.vince.head.data.root`. A head that is read (`head.weights`) is for the evaluation
  that names it.
  """
  c.data.update(name="otb", root=config_dict.placeholder(str), allow_missing=True)
  c.evals.ridge = tracking("otb100")
  for name, protocol, head in (("released", "released", {}), ("corrected", "corrected", {}),
                               ("vince", "corrected", VINCE)):
    c.evals[name] = tracking(c.evals.ridge.data.test, train="train", matcher="siamese",
                             protocol=protocol, head=head, head_options=dict(allow_missing=True))
    c.evals[name].head.data.name = "got10k"
  c.evals.corrected.head.data.root = c.evals.released.head.data.get_ref("root")


def got10k(c: ml_collections.ConfigDict) -> None:
  """GOT-10k's validation sequences, to evaluate on, with SiamFC's head trained on its others."""
  c.data.update(name="got10k", root=config_dict.placeholder(str), allow_missing=True)
  c.evals.ridge = tracking("val", benchmark="got10k")
  c.evals.released = tracking("val", train="train", benchmark="got10k", matcher="siamese",
                              protocol="released")
  c.evals.corrected = tracking("val", train="train", benchmark="got10k", matcher="siamese")


def sweep(name: str = ""):
  """What the cycle, other frames as positives, and other choices are worth."""
  from experiments.ablation import Table, pick

  arg = "method.args."
  moco = {f"{arg}cycle": 0.0, f"{arg}positives": "same_frame", "views.candidates": 0}
  return pick([
      Table("terms", "CycleContrast and what it is made of", {
          "as configured": {}, "without the cycle": {f"{arg}cycle": 0.0}, "MoCo": moco,
      }, [("as configured", ">", "MoCo"), ("as configured", ">", "without the cycle")],
          similarity=""),
      Table("details", "Where paper and released code differ, and options", {
          "as configured": {}, "own video's frames in the queue count (as released)":
          {f"{arg}mask_same_video": False}, "neighbours among all rows": {f"{arg}neighbours": 0},
          "one head and queue": {f"{arg}shared": True}, "linear head": {f"{arg}head": "linear"},
          "all frames positive": {f"{arg}positives": "all_frames", "views.candidates": 3},
          "no shuffling": {f"{arg}shuffle": False}, "with self": {f"{arg}with_self": True},
      }, similarity=""),
  ], name)
