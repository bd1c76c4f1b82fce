r"""Trains, evaluates, extracts and exports.

  python -m experiments.run --config=experiments/tca.py [--config.train.steps=100 ...]
  python -m experiments.run --mode=eval    --workdir=RUN [--exported=RUN/export/embed.jaxexport]
  python -m experiments.run --mode=eval    --workdir=RUN --config=experiments/tca.py:fivr \
                            --config.data.root=FIVR              on another data set
  python -m experiments.run --mode=eval    --workdir=RUN --input=VIDEO --first=MASK_OR_POINTS \
                            --output=FOLDER [--protocol=corrflow --max_side=640]
                                                                 masks or points in a video
  python -m experiments.run --mode=extract --workdir=RUN --input=VIDEOS --output=FILE.parquet
  python -m experiments.run --mode=export  --workdir=RUN --output=FOLDER

A run lives in its --workdir: resolved config, checkpoints, metrics, results, export. Starting the
same command again continues an interrupted run; a finished one says so.
"""

import contextlib
import logging
import os
import pathlib
import sys
import traceback
import warnings

from absl import app, flags
from ml_collections import config_flags

from data_pipelines.errors import DataError
from experiments import cli, config_file, interrupt
from vssl_jax.types import ConfigError

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file, with a preset after a colon: experiments/tca.py:folder. "
    "Override any value: --config.train.steps=100.")
MODE = flags.DEFINE_enum("mode", "train", ["train", "eval", "extract", "export"], "What to do.")
WORKDIR = flags.DEFINE_string(
    "workdir", "", "Folder of the run. Default for training: runs/<config>-<hash of its values>.")
EXPORTED = flags.DEFINE_string("exported", "", "eval: evaluate this .jaxexport instead.")
INPUT = flags.DEFINE_string("input", "", "extract: a video, or a folder of videos; eval: a video, "
                            "or a folder of pictures, to carry --first through.")
FIRST = flags.DEFINE_string("first", "", "eval with --input: what the first frame shows, a label "
                            "map (.png) or points (.csv with columns x, y and perhaps name).")
PROTOCOL = flags.DEFINE_string("protocol", "", "eval with --input: how --first is carried, by the "
                               "name of an evaluation of the run, or corrflow (the paper's), mast, "
                               "crw, ...; default later: the first frame and 7 previous ones.")
MAX_SIDE = flags.DEFINE_integer("max_side", 0, "eval with --input: frames with a longer side, in "
                                "pixels, are made smaller to carry --first through; 0 for never.")
OUTPUT = flags.DEFINE_string("output", "", "extract: a file or folder; export, eval: a folder.")
COORDINATOR = flags.DEFINE_string(
    "coordinator", "", 'Several processes: host:port of the first; "auto" on TPU pods and SLURM.')
PROCESSES = flags.DEFINE_integer("processes", 0, "Several processes: how many.")
PROCESS_ID = flags.DEFINE_integer("process_id", -1, "Several processes: which one this is.")
DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error in the input.")


def main(argv):
  if len(argv) > 1:
    raise ConfigError(f"what is {argv[1]!r}? Settings look like --config.train.steps=100")
  cli.check_flags(MODE.value)
  from experiments import modes  # after the flags: it takes seconds to import
  from vssl_jax import parallel

  parallel.initialise(COORDINATOR.value, PROCESSES.value, PROCESS_ID.value)
  config, workdir = cli.resolve(CONFIG, WORKDIR.value, MODE.value)
  with config_file.lookups(config, lambda key: _remedy(key, workdir)):
    if MODE.value == "train":
      modes.train(config, workdir)
    elif MODE.value == "eval" and (INPUT.value or FIRST.value or OUTPUT.value or PROTOCOL.value
                                   or MAX_SIDE.present):
      modes.evaluate_own(config, workdir, EXPORTED.value, INPUT.value, FIRST.value, OUTPUT.value,
                         cli.Carrying(PROTOCOL.value, MAX_SIDE.value))
    elif MODE.value == "eval":
      modes.evaluate(config, workdir, EXPORTED.value, elsewhere=CONFIG.value is not None)
    elif MODE.value == "extract":
      modes.extract(config, workdir, INPUT.value, OUTPUT.value)
    else:
      modes.export(config, workdir, OUTPUT.value)


def _remedy(key: str, workdir) -> str:
  """What to do where a config lacks a key: the run's own, or what --config names beside it."""
  if MODE.value == "train" or (CONFIG.value is not None and key.partition(".")[0] in cli.ELSEWHERE):
    return config_file.ADD
  return (f"the run in {workdir} is of an older version; train it anew, or add to its config.json "
          "what it was trained with")


def run(main=main) -> None:
  """A command line: errors in the user's input become one line, and exit status 2."""
  interrupt.INTERRUPT.catch()
  logging.getLogger("jax").setLevel(logging.WARNING)  # it tells of every platform not found
  warnings.filterwarnings("ignore", category=UserWarning, module="orbax")
  try:
    app.run(main, flags_parser=cli.parse_flags)
  except BrokenPipeError:  # whoever read the output has seen enough
    os._exit(0)
  except KeyboardInterrupt:
    _leave(0, "stopped; the same command continues from here")
  except (ConfigError, DataError, OSError, FloatingPointError) as e:
    _leave(2, traceback.format_exc() if "--debug" in sys.argv else f"error: {cli.one_line(e)}")
  except Exception:
    _leave(1, traceback.format_exc())


def _leave(status: int, text: str) -> None:
  """Ends the process without the usual exit, which would wait for threads and other processes."""
  print(text, file=sys.stderr, flush=True)
  with contextlib.suppress(OSError):  # it may be what has failed
    sys.stdout.flush()
  if "vssl_jax.parallel" in sys.modules:
    sys.modules["vssl_jax.parallel"].let_others_leave()
  os._exit(status)


if __name__ == "__main__":
  sys.path.insert(0, str(pathlib.Path.cwd()))
  run()
