"""Ablation tables: trains every row of a config file's `sweep()` for several seeds.

  python -m experiments.sweep --config=experiments/tca.py                 all tables
  python -m experiments.sweep --config=experiments/tca.py --sweep=loss --seeds=5
  python -m experiments.sweep --config=experiments/tca.py --config.train.steps=100 --seeds=1

Runs lie in folders of their own below --workdir, one after another in this process; finished ones
are not run again, so that Ctrl-C and the same command continue. Below --workdir too: tables.md,
which is also printed, and tables.json (tables-loss.md for --sweep=loss). Runs only train and
evaluate: no evaluation on the way, no export, no figures. Exit status 1 where a run failed.
"""

import inspect
import json
import os
import pathlib
import sys
import textwrap
import time
import traceback

from absl import flags

from data_pipelines.errors import DataError
from experiments import ablation, cli, config_file
from experiments import run as command_line
from vssl_jax.types import ConfigError

SWEEP = flags.DEFINE_string("sweep", "", "Tables of the config file's sweep(), between commas; "
                            "default all.")
SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each row: the config's seed and those after it.",
                             lower_bound=1)
flags.adopt_module_key_flags(command_line)
QUIET = {"train.eval_every": 0}  # what a run leaves out here, besides exports and figures
ABOUT = textwrap.fill(
    "Mean of each column over its queries, objects or videos, and ± standard deviation over seeds; "
    "the best of each column in bold. Directions are tested by a bootstrap over these items and "
    'seeds (of one seed: over items alone): "holds" and "doesn\'t hold" where the interval leaves '
    'out 0, else "within noise".', 98)


def main(argv) -> int:
  """Runs what is left, and tells all."""
  if len(argv) > 1:
    raise ConfigError(f"what is {argv[1]!r}? Settings look like --config.train.steps=100")
  _check_flags()
  config, _ = cli.resolve(command_line.CONFIG, command_line.WORKDIR.value, "train")
  spec = cli.config_spec(sys.argv)
  tables = load(spec, SWEEP.value)
  name = spec.removesuffix(".py").replace(".py:", "-").replace(",", "-").rpartition("/")[2]
  workdir = pathlib.Path(command_line.WORKDIR.value or pathlib.Path("runs") / f"{name}-sweep")
  config = ablation.change(config, QUIET, "sweep")
  runs, folders = ablation.plan(config, tables, SEEDS.value, workdir)
  cli.make_folder(workdir, "--workdir")
  _share_compilations(workdir)
  failed = _run_all(runs)
  if failed is None:
    print("stopped; the same command continues from here")
    return 0
  with cli.writing(workdir):
    file = workdir / "-".join(["tables", *filter(None, SWEEP.value.split(","))])
    text = write(tables, folders, failed, file)
  print(f"\n{text}\n\nWritten:\n  {file}.md\n  {file}.json")
  return 1 if failed else 0


def load(spec: str, name: str) -> list[ablation.Table]:
  """The tables that the config file yields for `name`; "" for all.

  Its `sweep(name)`, or `sweep(name, preset)` where rows depend on what the config has.
  """
  file, _, preset = spec.partition(":")
  function = config_file.definitions(spec).get("sweep")
  if function is None:
    raise ConfigError(f"--config={file} has no sweep(): define one that yields tables, see "
                      "experiments/ablation.py")
  try:
    takes = inspect.signature(function).parameters
    tables = list(function(name, **({"preset": preset} if "preset" in takes else {})))
  except ConfigError as e:
    raise ConfigError(f"--sweep={name}: {e}") from e
  except Exception as e:  # a config file is anybody's program
    raise ConfigError(f"--config={file}: sweep({name!r}): {type(e).__name__}: {e}") from e
  wrong = [t for t in tables if not isinstance(t, ablation.Table)]
  if wrong or not tables:
    raise ConfigError(f"--config={file}: sweep({name!r}) should yield ablation.Tables, not "
                      f"{type(wrong[0]).__name__ if wrong else 'nothing'}")
  return tables


def _check_flags() -> None:
  cli.check_flags("train")
  for name in ("mode", "coordinator", "processes", "process_id"):
    if flags.FLAGS[name].present:
      raise ConfigError(f"--{name} is for experiments.run; a sweep trains, in one process")


def _share_compilations(workdir: pathlib.Path) -> None:
  """Rows that differ in their seed alone are the same programs: compile them once."""
  import jax  # after the flags: it takes seconds to import

  if jax.config.jax_compilation_cache_dir is None:
    jax.config.update("jax_compilation_cache_dir", str((workdir / "compiled").absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def _run_all(runs: list[ablation.Run]) -> dict[pathlib.Path, str] | None:
  """Folder -> why, for the runs that failed; None where Ctrl-C stopped them."""
  from experiments import modes

  failed, rows, start, done = {}, max(run.row for run in runs), time.monotonic(), 0
  left = [run for run in runs if ablation.read(run.folder) is None]
  for i, run in enumerate(left):
    eta = ""
    if done:
      eta = f", about {(time.monotonic() - start) / 60 / done * (len(left) - i):.0f} min left"
    print(f"\nrow {run.row} of {rows}, seed {run.seed} ({run.name}), run "
          f"{len(runs) - len(left) + i + 1} of {len(runs)}{eta}", flush=True)
    try:
      with config_file.lookups(run.config, lambda key: config_file.ADD):
        modes.train(run.config, run.folder, brief=True)
    except BrokenPipeError:
      raise
    except Exception as e:  # the other rows go on; the status tells
      known = isinstance(e, ConfigError | DataError | OSError | FloatingPointError)
      failed[run.folder] = cli.one_line(e) if known else f"{type(e).__name__}: {cli.one_line(e)}"
      shown = failed[run.folder] if known and not command_line.DEBUG.value else (
          traceback.format_exc())
      print(f"failed: {shown}", file=sys.stderr, flush=True)
      continue
    finally:
      done += 1
    if ablation.read(run.folder) is None:
      return None
  return failed


def write(tables, folders, failed, path: pathlib.Path) -> str:
  """Writes `path`.json and `path`.md; returns what is in the latter."""
  summaries, minutes = [], {}
  for table in tables:
    results, bad = {}, {}
    for row in table.rows:
      found = {f: m for f in folders[table.name, row] if (m := ablation.read(f)) is not None}
      minutes |= {f: m.minutes for f, m in found.items()}
      results[row] = {int(f.name[4:].partition("-")[0]): m for f, m in found.items()}
      bad |= {f"{row}, {f.name}": failed[f] for f in folders[table.name, row] if f in failed}
    summary = ablation.summarise(table, results)
    summaries.append(summary | {
        "failed": bad,
        "settings": {r: {"values": dict(v), "folders": [f.name for f in folders[table.name, r]]}
                     for r, v in table.rows.items()}})
  parts = ["# Ablations", ABOUT]
  for summary in summaries:
    parts.append(ablation.markdown(summary))
    parts += [f"Failed: {name}: {why}" for name, why in summary["failed"].items()]
  total = sum(minutes.values())
  parts.append(f"{len(minutes)} runs, {total:.1f} minutes in all; equal runs of several tables "
               "were run once.")
  text = "\n\n".join(parts)
  facts = {"tables": summaries, "runs": len(minutes), "minutes": total}
  for suffix, content in ((".json", json.dumps(facts, indent=1)), (".md", text + "\n")):
    temporary = path.with_name(f"{path.name}{suffix}.tmp")
    temporary.write_text(content)
    os.replace(temporary, path.with_name(path.name + suffix))
  return text


if __name__ == "__main__":
  sys.path.insert(0, str(pathlib.Path.cwd()))
  command_line.run(main)
