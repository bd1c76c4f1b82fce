"""What `--mode` does: train, evaluate, extract, export."""

import contextlib
import json
import math
import os
import pathlib
import shutil
import time
import zlib

import jax
import numpy as np

from experiments import cli, interrupt, origin, registry
from vssl_jax import parallel
from vssl_jax import train as training
from vssl_jax.checkpoint import Checkpoints
from vssl_jax.evaluators import figures
from vssl_jax.log import Log
from vssl_jax.types import ConfigError

SCRATCH = "unfinished"  # in the folder of an evaluation: from which it goes on
PREDICTED = "predicted"  # there, until all of it is


def load(config):
  """The workflow module that the config names, and its model on all devices."""
  workflow = registry.module("experiments.workflows", config.workflow, "workflow", "Model")
  return workflow, workflow.Model(config, parallel.mesh())


def train(config, workdir: pathlib.Path, *, brief: bool = False) -> None:
  """Trains to the end, evaluates, exports, evaluates the export, and writes the results.

  Args:
    brief: evaluate the trained model only, and leave nothing but the results of that.
  """
  start = time.perf_counter()
  with cli.claim(config, workdir, jax.process_index() == 0), cli.writing(workdir):
    finished = workdir / "results.json"
    if finished.exists():
      shutil.rmtree(workdir / SCRATCH, ignore_errors=True)  # it may have been killed before
      say(json.loads(finished.read_text())["text"])
      say(f"\nThis run is finished: {workdir}\nTo train anew, change a value or the --workdir.")
      return
    say(f"run folder: {workdir}   devices: {jax.device_count()} x {jax.devices()[0].device_kind}")
    workflow, model = load(config)
    model.check()
    task = workflow.Task(model, workdir)
    interrupt.INTERRUPT.check()
    if jax.process_index() == 0:
      cli.record(config, workdir)  # not before: a config that can't be run claims no folder
      task.save(workdir)
    initial = model.init_state()
    with interrupt.Stop() as stop:
      state = _fit(task, initial, workdir, stop)
    if int(state.step) < config.train.steps or parallel.any_process(stop()):
      say(f"stopped at step {int(state.step)} of {config.train.steps}; the same command continues "
          "from here")
      return
    if brief:
      measure(workflow, task, state, workdir, start)
    else:
      finish(workflow, task, initial, state, workdir, start)


def _fit(task, initial, workdir: pathlib.Path, stop):
  """Trains from the newest checkpoint on, or from `initial`; returns the last state."""
  model, c = task.model, task.config.train
  step_fn = training.make_step(model.method, model.tx, model.mesh)
  with Checkpoints(workdir / "checkpoints", c.keep) as checkpoints:
    if checkpoints.latest is not None:
      state, position = checkpoints.restore(initial, {"next_step": 0})
      say(f"continuing from step {position['next_step']} of {c.steps}")
    else:
      state = jax.tree.map(lambda x: x.copy(), initial)  # the step donates its state
    first = int(state.step)
    left = contextlib.closing(task.batches(first)) if first < c.steps else (
        contextlib.nullcontext(()))  # there may be nothing to train on
    with Log(workdir, start=first, dropped_videos=lambda: task.dropped) as log, left as batches:
      return training.fit(
          state, step_fn, batches, steps=c.steps, batch=c.batch, mesh=model.mesh,
          log=log, checkpoints=checkpoints, checkpoint_every=c.checkpoint_every,
          log_every=c.log_every, eval_every=c.eval_every, stop=stop,
          evaluate=lambda s: {f"eval/{k}": v for k, v in task.report(
              model.live(s), brief=True).numbers.items()})


def measure(workflow, task, state, workdir: pathlib.Path, start: float) -> None:
  """The end of a brief run: the trained model's numbers."""
  reports = {task.model.trained_name: task.report(task.model.live(state))}
  if jax.process_index() == 0:
    save(workdir / "results.json", workflow, workflow.table(task, reports), reports,
         seed=task.config.seed, minutes=(time.perf_counter() - start) / 60)


def finish(workflow, task, initial, state, workdir: pathlib.Path, start: float) -> None:
  """The end of training: evaluation of all rows, export, figures, table."""
  say("evaluating")
  model, trained = task.model, task.model.trained_name
  # What was found is kept until all of it is, in case the rest is interrupted.
  unfinished, weights = workdir / SCRATCH, checksum(state)

  def report(row, name, folder=None):
    about = [name, weights]
    scratch = unfinished / origin.digest(about) if jax.process_count() == 1 else None
    if scratch:
      cli.make_folder(scratch, "--workdir")
    return task.report(row, scratch=scratch, about=about, folder=folder)

  rows = {**task.baselines(initial), trained: model.live(state)}
  # What the last row, the trained model's, predicts is kept.
  reports = {name: report(row, name, workdir if name == trained else None)
             for name, row in rows.items()}
  say("exporting, and evaluating what was exported")
  written = [workdir / name for name in ("config.json", "checkpoints", "metrics.jsonl",
                                         "tensorboard")]
  if jax.process_index() == 0:
    written += model.export(state, workdir / "export")
  parallel.barrier("export")
  file = workdir / "export" / "embed.jaxexport"
  exported = report(model.exported(file), model.exported_digest(file))
  equal = workflow.check_equal(reports[trained], exported)
  pages, skipped = workflow.figures(task, reports, rows)  # all processes: models run on all devices
  if jax.process_index() == 0:
    for name, page in pages.items():
      figures.save(page, workdir / name)
    written += [*(workdir / name for name in pages), *workflow.files(task, reports, workdir)]
    text = workflow.table(task, reports) + (
        f"\nThe exported model was evaluated as well: {equal}.\n\nWritten:\n"
        + "\n".join([*(f"  {p}" for p in written), *skipped]))
    minutes = (time.perf_counter() - start) / 60
    save(workdir / "results.json", workflow, text, reports, seed=task.config.seed, minutes=minutes)
    shutil.rmtree(unfinished, ignore_errors=True)
    print(f"\n{text}\n\n{minutes:.1f} minutes")


def save(path: pathlib.Path, workflow, text: str, reports, **facts) -> None:
  """Writes results.json, whose presence marks the run as finished."""
  rows = {name: workflow.numbers(report) for name, report in reports.items()}
  temporary = path.with_suffix(".tmp")
  page = _without_nan({"text": text, "rows": rows, **facts})
  temporary.write_text(json.dumps(page, indent=1, allow_nan=False))
  os.replace(temporary, path)


def _without_nan(tree):
  """JSON has no nan: null stands for a number that isn't defined."""
  if isinstance(tree, dict):
    return {k: _without_nan(v) for k, v in tree.items()}
  if isinstance(tree, list | tuple):
    return [_without_nan(v) for v in tree]
  return None if isinstance(tree, float) and math.isnan(tree) else tree


def evaluate(config, workdir: pathlib.Path, exported: str, elsewhere: bool = False) -> None:
  """Prints the numbers of the newest checkpoint, or of an exported file.

  With `elsewhere`, those on another data set than the run's, which are also written.
  """
  workflow, model = load(config)
  name, row, about = _row(model, workdir, exported)
  task = (workflow.Evaluation if elsewhere else workflow.Task)(model, workdir)
  if not elsewhere:
    say(workflow.table(task, {name: task.report(row)}))
    return
  folder, scratch = cli.evaluation_folder(config, workdir), None
  with contextlib.ExitStack() as stack:
    if jax.process_count() == 1:  # may be long: what is found is kept until all of it is
      scratch = folder / SCRATCH / origin.digest(about)
      stack.enter_context(cli.hold(scratch))
    predicted = scratch / PREDICTED if scratch else folder
    reports = {name: task.report(row, scratch=scratch, about=about, folder=predicted)}
    with cli.writing(folder):
      _write(config, workdir, workflow, task, reports, {name: row}, folder, predicted)
    if scratch:
      shutil.rmtree(scratch, ignore_errors=True)
      try:
        scratch.parent.rmdir()
      except OSError:
        say(f"\n{scratch.parent} holds what evaluations of other models found until they were "
            "interrupted; delete it unless they are to be continued.")


def _write(config, workdir: pathlib.Path, workflow, task, reports, rows, folder: pathlib.Path,
           predicted: pathlib.Path) -> None:
  """Prints and writes what an evaluation on another data set found."""
  text = workflow.table(task, reports)
  say(text)
  pages, skipped = workflow.figures(task, reports, rows) if task.drawn else ({}, [])
  if jax.process_index() > 0:
    return
  cli.make_folder(folder, "--workdir")
  if predicted != folder and predicted.is_dir():
    for made in predicted.iterdir():  # in place of what another model predicted
      shutil.rmtree(folder / made.name, ignore_errors=True)
      os.replace(made, folder / made.name)
  for page, drawn in pages.items():
    figures.save(drawn, folder / page)
  written = [*(folder / page for page in pages), *workflow.files(task, reports, folder),
             folder / "results.json"]
  save(written[-1], workflow, text, reports, data=config.data.to_dict(), missing=task.missing,
       trained=json.loads((workdir / "config.json").read_text()))
  print("\n".join(["\nWritten:", *(f"  {p}" for p in written), *skipped]))


def evaluate_own(config, workdir: pathlib.Path, exported: str, source: str, first: str,
                 output: str, how: cli.Carrying) -> None:
  """Runs the newest checkpoint, or an exported file, on a user's own video."""
  if jax.process_count() > 1:
    raise ConfigError("--mode=eval --input is for one process: leave out --coordinator")
  workflow, model = load(config)
  if not hasattr(workflow, "own"):
    raise ConfigError(f"--input: a run of {config.workflow} evaluates data sets, --config=...; "
                      "--mode=extract takes videos of your own")
  name, row, _ = _row(model, workdir, exported)
  workflow.own(model, name, row, source, first, output, how)


def _row(model, workdir: pathlib.Path, exported: str):
  """What is evaluated: its name, the model, and which one it is, in JSON's types."""
  if exported:
    name, path = "exported model", pathlib.Path(exported)
    return name, model.exported(path), [name, model.exported_digest(path)]
  step, state = model.newest(workdir)
  name = f"{model.trained_name}, step {step}"
  return name, model.live(state), [name, checksum(state)]


def checksum(state) -> int:
  """Of a model's parameters, and of what its norms remember."""
  found = 0
  for x in jax.tree.leaves(jax.device_get((state.params, state.aux))):
    found = zlib.crc32(np.ascontiguousarray(x), found)
  return found


def export(config, workdir: pathlib.Path, output: str) -> None:
  """Exports the newest checkpoint."""
  folder = pathlib.Path(output or workdir / "export")
  cli.make_folder(folder, "--output")
  _, model = load(config)
  _, state = model.newest(workdir)
  if jax.process_index() == 0:
    with cli.writing(folder):
      written = model.export(state, folder)
    print("\n".join(map(str, written)))


def extract(config, workdir: pathlib.Path, source: str, output: str) -> None:
  """Writes the features of a user's videos."""
  workflow = registry.module("experiments.workflows", config.workflow, "workflow", "Model")
  if not source or not output:
    raise ConfigError(f"--mode=extract needs --input=VIDEOS and --output={workflow.EXTRACTED}")
  if jax.process_count() > 1:
    raise ConfigError("--mode=extract is for one process: leave out --coordinator, and give each "
                      "host an --input and --output of its own")
  _, model = load(config)
  workflow.extract(model, workdir, source, output)


def say(text: str) -> None:
  """Prints on the first process only."""
  if jax.process_index() == 0:
    print(text, flush=True)
