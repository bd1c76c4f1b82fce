r"""CorrFlow: dense correspondence by copying colours, for masks and key points through a video.

  python -m experiments.run --config=experiments/corrflow.py              the embedded data set
  python -m experiments.run --config=experiments/corrflow.py:folder --config.data.root=VIDEOS
  python -m experiments.run --config=experiments/corrflow.py:kinetics --config.data.root=KINETICS \
                            --config.evals.davis.data.root=DAVIS          the paper's data
  python -m experiments.run --config=experiments/corrflow.py:oxuva --config.data.root=OXUVA \
                            --config.evals.davis.data.root=DAVIS
  python -m experiments.run --config=experiments/corrflow.py:mast --config.data.root=VIDEOS \
                            --config.evals.davis.data.root=DAVIS          its successor

A run is evaluated on other data with

  python -m experiments.run --mode=eval --workdir=RUN --config=experiments/corrflow.py:davis \
                            --config.data.root=DAVIS                      or :jhmdb

and carries masks or points of yours through a video with

  python -m experiments.run --mode=eval --workdir=RUN --input=VIDEO --first=MASK.png --output=FOLDER

whatever the run is evaluated by, by the later protocol (first and 7 previous frames, the 10 best
cells); with --protocol=corrflow by the paper's (previous frame), which is faster, or by one of the
run's evaluations, --protocol=masks.

The authors' checkpoints: --config.method.weights=FILE, and --config.train.steps=0 to evaluate and
export them as they are.

  python -m experiments.sweep --config=experiments/corrflow.py [--sweep=contributions] [--seeds=3]

trains without each of the paper's four contributions; see `sweep`.
"""

import ml_collections
from ml_collections import config_dict

from vssl_jax.types import ConfigError

# What can be changed in a protocol of `ops/propagation.py`, and its type; nothing given means: as
# the protocol has it. Its stride is the model's, and its align too unless one is given.
CHANGES = dict(
    fixed=tuple,  # numbers of frames that stay references: 0,5
    recent=tuple,  # ages of the others: 1,2,3 for the three previous frames
    missing=str, shape=str,
    radius=int,  # of windows, in cells; 0 for the whole map
    fixed_radius=str,  # of windows in fixed frames: "same" as the others', or a number, likewise
    top_k=int,  # cells that have a weight; 0 for all
    temperature=float, normalise=bool, border=str, align=str,
    search_age=int,  # 0 for never
    search_radius=int)
MASKS = dict(feedback=str, rule=str)  # points begin as shares of cells, and stay so


def get_config(preset: str = "") -> ml_collections.ConfigDict:
  """The config of a preset; "" is the embedded default."""
  presets = {"": embedded, "folder": folder, "kinetics": kinetics, "oxuva": oxuva, "mast": mast,
             "davis": davis, "jhmdb": jhmdb}
  if preset not in presets:
    raise ConfigError(f"experiments/corrflow.py has no preset {preset!r}; there are: "
                      f"{', '.join(p for p in presets if p)}, and none for the embedded default")
  config = base()
  presets[preset](config)
  return config


def base() -> ml_collections.ConfigDict:
  """What all presets share; the values are the released code's (corrflow spec 2-8)."""
  c = ml_collections.ConfigDict()
  c.workflow = "correspondence"
  c.seed = 0
  c.data = dict(
      name="", root="", split="",
      cache_dir="",  # of what is drawn; "" is vssl_jax below the user's cache folder
      max_bad_fraction=0.02,  # of the training videos; more unreadable ones stop the run
  )
  c.clips = dict(
      frames=3,
      gap=4,  # frames from one to the next
      fps=0.0,  # of a second that the gap counts in; 0 for the video's own frames
      size=256,  # pixels a side, whatever the shape
      jitter_p=0.1,  # share of clips whose colours are changed
      jitter=(0.1, 0.1, 0.1, 0.1),  # brightness, contrast, saturation, hue
  )
  c.colours = dict(
      clusters=0,  # classes of colours, fitted to the training videos; 0 for
      # those of method.args.centroids, or the published ones where that is empty
      videos=500,  # that they are fitted to, a frame of each
      samples=10_000,  # pixels
  )
  c.method = dict(name="corrflow", args=dict(
      width=64, dim=64, blocks=2, radius=6, restricted=True, colour="quantised", centroids=(),
      rule="area", align="cell", border="mask", bottleneck=True, drop=0.7, drop_per_clip=False,
      scheduled_sampling=(0.9, 0.6), cycle=0.1, groups=1, running="first",
      parity_statistics=False, dtype="float32"))
  c.method.weights = ""  # the authors' checkpoint (.pth, .safetensors) to begin with; "" for random
  c.optim = dict(learning_rate=2e-4, schedule="halving",
                 halve_after=(400_000, 600_000, 800_000, 1_000_000),  # clips
                 warmup=0, weight_decay=0.0, coupled=True, clip=0.0)
  c.train = dict(steps=191_330, batch=6, log_every=10, eval_every=0, checkpoint_every=2000, keep=2,
                 threads=2, buffer=32,
                 workers=0)  # processes that read; -1 for as many as there are CPUs
  c.evals = ml_collections.ConfigDict()
  return c


def segmentation(name: str = "", split: str = "", protocol: str = "later", about: str = "",
                 **options) -> dict:
  """An evaluation of masks; without a name of a data set, on that of `data`.

  Args:
    protocol: in `ops/propagation.py`: "corrflow" is the paper's, the previous frame (corrflow spec
      10), "later" that of later work, the first frame and 7 before (16.2).
    about: what the table says of it.
    options: of the data set's reader.
  """
  return dict(name="segmentation", about=about,
              data=dict(name=name, root="", split=split, **options),
              args=dict(protocol=protocol, changes=_unchanged(CHANGES | MASKS), merge=False))


def keypoints(name: str = "", split: str = "", protocol: str = "later", size: int = 320,
              about: str = "", **options) -> dict:
  """An evaluation of key points; likewise."""
  return dict(name="keypoints", about=about,
              data=dict(name=name, root="", split=split, **options),
              args=dict(protocol=protocol, changes=_unchanged(CHANGES), size=size))


def _unchanged(kinds: dict) -> dict:
  return {name: config_dict.placeholder(kind) for name, kind in kinds.items()}


def embedded(c: ml_collections.ConfigDict) -> None:
  """Rendered videos; a demonstration that runs anywhere in minutes."""
  c.data.update(name="procedural", split="unlabelled", seed=0, size=96, fps=8, seconds=(5.0, 7.0),
                n_train_families=60, n_train_edits=0, n_background=140, n_queries=0,
                n_distractors=24, difficulty=0.0)
  c.clips.update(size=96, gap=1)
  c.colours.clusters = 32
  c.method.args.update(width=16, blocks=1)
  c.optim.update(learning_rate=2e-3, schedule="cosine")
  c.train.update(steps=1600, batch=4, checkpoint_every=400)
  held_out = dict(split="eval", shots=True, n_train_families=0, n_background=0)
  # A standard deviation of the logarithm of each channel's gain, drawn for every frame.
  unsteady = dict(flicker=0.1, about="light changes by a tenth from frame to frame")
  c.evals.masks = segmentation(protocol="corrflow", **held_out, **unsteady)
  c.evals.steady = segmentation(protocol="corrflow", **held_out,
                                about="light never changes: colours alone tell objects")
  # Twice the frames' size: at their own a cell is wider than what counts as near.
  c.evals.points = keypoints(protocol="corrflow", size=192, **held_out, **unsteady)


def folder(c: ml_collections.ConfigDict) -> None:
  """Any folder of videos; evaluated on frames of held-out ones that known homographies move."""
  c.data.update(name="folder", root=config_dict.placeholder(str), split="train", holdout=0.2,
                holdout_seed=0, max_bad_fraction=0.2)
  c.clips.update(size=128, gap=4)
  c.method.args.update(width=16)
  c.optim.update(learning_rate=1e-3, schedule="cosine")
  c.train.update(steps=1000, batch=4, checkpoint_every=100)
  c.evals.points = keypoints("homography", split="heldout", size=128, allow_missing=True)
  c.evals.points.args.changes.recent = (1, 2, 3, 4)
  c.evals.davis = segmentation("davis", "all", protocol="corrflow", allow_missing=True)
  for key in ("root", "holdout", "holdout_seed"):
    c.evals.points.data[key] = c.data.get_ref(key)


def kinetics(c: ml_collections.ConfigDict) -> None:
  """The data of the paper's main result, Kinetics-400: 3 frames 4 apart of 256 x 256 pixels.

  Trained as the released code does, 1.148 million clips in batches of 6; the paper says batches of
  8 and 1 million iterations: --config.train.batch=8 --config.train.steps=1000000, and learning
  rates halved after 0.4, 0.6 and 0.8 million of them: optim.halve_after=3200000,4800000,6400000.
  """
  c.data.update(name="kinetics400", root=config_dict.placeholder(str), split="train",
                allow_missing=True)
  _paper(c)


def oxuva(c: ml_collections.ConfigDict) -> None:
  """The later recipe of the authors: OxUvA's 337 sequences, 1.148 million clips."""
  c.data.update(name="oxuva", root=config_dict.placeholder(str), split="all", allow_missing=True)
  _paper(c)


def _paper(c: ml_collections.ConfigDict) -> None:
  c.evals.davis = segmentation("davis", "val", protocol="corrflow", allow_missing=True)
  c.evals.later = segmentation("davis", "val", allow_missing=True)
  c.evals.later.data.root = c.evals.davis.data.get_ref("root")
  c.train.workers = -1


def mast(c: ml_collections.ConfigDict) -> None:
  """MAST, its successor: Lab channels regressed, long-term memory (corrflow spec 16.1).

  Frames of a pair are 4 apart, where MAST draws 2, 5 or 8 (with chances 0.4, 0.4, 0.2).
  """
  c.data.update(name="folder", root=config_dict.placeholder(str), split="train", holdout=0.0,
                holdout_seed=0, max_bad_fraction=0.2)
  c.clips.update(frames=2, gap=4, jitter_p=0.0)
  c.method.args.update(colour="lab", rule="slice", align="half_pixel", border="zero", cycle=0.0,
                       scheduled_sampling=(1.0, 1.0))
  c.optim.learning_rate = 1e-3
  c.train.update(steps=100_000, batch=12)
  c.evals.davis = segmentation("davis", "val", protocol="mast", allow_missing=True)


def davis(c: ml_collections.ConfigDict) -> None:
  """DAVIS-2017's validation sequences, to evaluate on: the paper's protocol and the later one."""
  c.data.update(name="davis", root=config_dict.placeholder(str), allow_missing=True)
  c.evals.davis = segmentation(split="val", protocol="corrflow")
  c.evals.later = segmentation(split="val")


def jhmdb(c: ml_collections.ConfigDict) -> None:
  """JHMDB's joints, split 1, to evaluate on: the later protocol (corrflow spec 12), the paper's."""
  c.data.update(name="jhmdb", root=config_dict.placeholder(str), allow_missing=True)
  c.evals.jhmdb = keypoints(split="test1")
  c.evals.paper = keypoints(split="test1", protocol="corrflow")


def sweep(name: str = "", preset: str = ""):
  """What each of the paper's four contributions is worth, and options beyond it.

  The paper says that removing any one hurts; its numbers could not be had (corrflow spec 14).
  """
  from experiments.ablation import Table, pick

  arg = "method.args."
  averaged = {f"evals.{key}.args.changes.rule": "id_average"
              for key, settings in get_config(preset).evals.items()
              if settings.name == "segmentation"}
  without = {
      "no information bottleneck": {f"{arg}bottleneck": False},
      "no restricted attention": {f"{arg}restricted": False},
      "no scheduled sampling": {f"{arg}scheduled_sampling": (1.0, 1.0)},
      "no cycle": {f"{arg}cycle": 0.0},
  }
  return pick([
      Table("bottleneck", "With and without the information bottleneck",
            {"as configured": {}, "no information bottleneck": {f"{arg}bottleneck": False}},
            [("as configured", ">", "no information bottleneck")], similarity=""),
      Table("contributions", "Without each of the four contributions", {
          "as configured": {}, **without,
          "none of the four": {k: v for changes in without.values() for k, v in changes.items()},
      }, [("as configured", ">", row) for row in without], similarity=""),
      Table("details", "Where paper and released code differ, and options", {
          "as configured": {},
          "classes averaged (as released)": {f"{arg}rule": "id_average", **averaged},
          "half-pixel alignment (as released)": {f"{arg}align": "half_pixel"},
          "channels dropped a clip": {f"{arg}drop_per_clip": True},
          "always jittered": {"clips.jitter_p": 1.0},
          "MAST: Lab, regressed": {f"{arg}colour": "lab", f"{arg}rule": "slice", f"{arg}cycle": 0.0,
                                   f"{arg}align": "half_pixel"}}, similarity="", note=(
          "Half-pixel alignment, of MAST too, is that of the evaluation as well, and averaged "
          "classes are how masks become cells there; all else is evaluated as configured.")),
  ], name)
