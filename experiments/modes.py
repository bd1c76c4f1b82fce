"""What `--mode` does: train, evaluate, extract, export."""

import contextlib
import json
import pathlib
import shutil
import time

import jax

from experiments import cli, exports, extraction, pictures, registry, results
from vssl_jax import parallel
from vssl_jax import train as training
from vssl_jax.checkpoint import Checkpoints
from vssl_jax.log import Log
from vssl_jax.types import ConfigError


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
      say(json.loads(finished.read_text())["text"])
      say(f"\nThis run is finished: {workdir}\nTo train anew, change a value or the --workdir.")
      return
    say(f"run folder: {workdir}   devices: {jax.device_count()} x {jax.devices()[0].device_kind}")
    workflow, model = load(config)
    model.check()
    task = workflow.Task(model, workdir)
    cli.INTERRUPT.check()
    if jax.process_index() == 0:
      cli.record(config, workdir)  # not before: a config that can't be run claims no folder
      task.save(workdir)
    initial = model.init_state()
    with cli.Stop() as stop:
      state = _fit(task, initial, workdir, stop)
    if int(state.step) < config.train.steps or parallel.any_process(stop()):
      say(f"stopped at step {int(state.step)} of {config.train.steps}; the same command continues "
          "from here")
      return
    if brief:
      measure(task, state, workdir, start)
    else:
      finish(task, initial, state, workdir, start)


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
    with Log(workdir, start=first, dropped_videos=task.dropped) as log, left as batches:
      return training.fit(
          state, step_fn, batches, steps=c.steps, batch=c.batch, mesh=model.mesh,
          log=log, checkpoints=checkpoints, checkpoint_every=c.checkpoint_every,
          log_every=c.log_every, eval_every=c.eval_every, stop=stop,
          evaluate=lambda s: {f"eval/{k}": v for k, v in task.evaluator(
              model.embed(s), model.score(s)).items()})


def measure(task, state, workdir: pathlib.Path, start: float) -> None:
  """The end of a brief run: the trained model's numbers."""
  model, name = task.model, task.model.trained_name
  reports = {name: task.evaluator.report(model.embed(state), model.score(state))}
  if jax.process_index() == 0:
    minutes = (time.perf_counter() - start) / 60
    results.save(workdir / "results.json", results.table(task, reports), reports,
                 seed=task.config.seed, minutes=minutes)


def finish(task, initial, state, workdir: pathlib.Path, start: float) -> None:
  """The end of training: evaluation of all rows, export, figures, table."""
  say("evaluating")
  model, trained = task.model, task.model.trained_name
  rows = {**task.baselines(initial), trained: (model.embed(state), model.score(state))}
  reports = {name: task.evaluator.report(*row) for name, row in rows.items()}
  embeds = {name: embed for name, (embed, _) in rows.items()}
  say("exporting, and evaluating what was exported")
  written = [workdir / name for name in ("config.json", "checkpoints", "metrics.jsonl",
                                         "tensorboard")]
  if jax.process_index() == 0:
    written += model.export(state, workdir / "export")
  parallel.barrier("export")
  exported = task.evaluator.report(*model.exported(workdir / "export" / "embed.jaxexport"))
  difference = results.check_equal(reports[trained], exported)
  page = results.figure(task, reports, embeds)  # all processes: it embeds a pair
  pages, skipped = pictures.draw(task, reports, embeds)
  if jax.process_index() == 0:
    written += [results.save_figure(page, workdir), *pictures.save(pages, workdir),
                results.rankings(reports, workdir), results.curves(reports, workdir)]
    text = results.table(task, reports) + (
        "\nThe exported model was evaluated as well: the same mAP, scores equal to within "
        f"{difference:.0e}.\n\nWritten:\n" + "\n".join([*(f"  {p}" for p in written), *skipped]))
    minutes = (time.perf_counter() - start) / 60
    results.save(workdir / "results.json", text, reports, seed=task.config.seed, minutes=minutes)
    print(f"\n{text}\n\n{minutes:.1f} minutes")


def evaluate(config, workdir: pathlib.Path, exported: str, elsewhere: bool = False) -> None:
  """Prints the numbers of the newest checkpoint, or of an exported file.

  With `elsewhere`, those on another data set than the run's, which are also written.
  """
  workflow, model = load(config)
  if exported:
    name, row = "exported model", model.exported(pathlib.Path(exported))
  else:
    step, state = model.newest(workdir)
    name, row = f"{model.trained_name}, step {step}", (model.embed(state), model.score(state))
  task = (workflow.Evaluation if elsewhere else workflow.Task)(model, workdir)
  folder, scratch = cli.evaluation_folder(config, workdir), None
  if elsewhere and jax.process_count() == 1:  # may be large: what is embedded and scored is kept
    scratch = folder / "search"
    cli.make_folder(scratch, "--workdir")
  origin = {"model": name, "file": exports.digest(exported) if exported else ""}
  reports = {name: task.evaluator.report(*row, scratch, origin)}
  text = results.table(task, reports)
  say(text)
  if elsewhere and jax.process_index() == 0:
    with cli.writing(folder):
      cli.make_folder(folder, "--workdir")
      written = [results.rankings(reports, folder), results.curves(reports, folder),
                 folder / "results.json"]
      results.save(written[-1], text, reports, data=config.data.to_dict(),
                   missing=task.data.missing)
    shutil.rmtree(folder / "search", ignore_errors=True)
    print("\nWritten:\n" + "\n".join(f"  {p}" for p in written))


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
  """Writes the descriptors of a user's videos to a Parquet file."""
  if not source or not output:
    raise ConfigError("--mode=extract needs --input=VIDEOS and --output=FILE.parquet")
  if jax.process_count() > 1:
    raise ConfigError("--mode=extract is for one process: leave out --coordinator, and give each "
                      "host an --input and --output of its own")
  extraction.check_output(output)
  videos = extraction.find_videos(source)
  _, model = load(config)
  step, state = model.newest(workdir)
  with cli.writing(pathlib.Path(output)):
    origin = {"run": workdir.absolute().name, "step": step}
    counts = extraction.write(model, state, origin, videos, pathlib.Path(output))
  print(f"{output}: {counts['videos']} videos, {counts['frames']} frames, "
        f"{counts['bad']} that could not be read" + (", see its column error" if counts["bad"]
                                                     else ""))


def say(text: str) -> None:
  """Prints on the first process only."""
  if jax.process_index() == 0:
    print(text, flush=True)
