"""How much accuracy a shortlist keeps, and how much time it takes, for shortlists of several sizes.

  python -m experiments.run --config=experiments/tca.py --config.data.n_distractors=3000 \
      --workdir=RUN
  python -m benchmarks.two_stage --workdir=RUN [--output=curve.png]
  python -m benchmarks.two_stage --size=5000      times alone, of random videos of the paper's size

Every query of a run's evaluation is compared with its database: by frames with all videos
(Chamfer, the time and accuracy to compare with), and in two stages. Times are of searching alone,
embedded videos being in memory, the median of the repeats, all sizes taking turns. For rendered
videos, a dozen frames of 192 dimensions, starting a product takes longer than the product itself;
what a shortlist saves shows at the paper's 100 frames of 1,024 dimensions.
"""

import argparse
import pathlib
import statistics
import time
import types

import jax
import numpy as np
from matplotlib.figure import Figure

from benchmarks.retrieval import indexed, make
from experiments import cli, modes
from vssl_jax.evaluators import search

SHARES = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5)


def load(workdir: pathlib.Path):
  """Evaluator of a run, and its queries and database embedded by the newest checkpoint."""
  config, _ = cli.resolve(types.SimpleNamespace(value=None), str(workdir), "eval")
  workflow, model = modes.load(config)
  _, state = model.newest(workdir)
  task = workflow.Task(model, workdir)
  return task.evaluator, task.evaluator.embedded(model.embed(state))


def measure(asked, found, repeats: int) -> tuple[dict, dict]:
  """Seconds and tables [Q, N] by row: "cosine", "chamfer", and a number of videos each."""

  def chamfer():
    scores = search.Scores(("chamfer",), (len(found), len(asked)))
    search.exhaustive(asked, found, scores)
    return scores.tables["chamfer"].T

  def two_stage(size):
    return search.two_stage(asked, found, search.cosine(asked, found), size)

  sizes = sorted({search.shortlist_size(len(found), share, least=1) for share in SHARES}
                 | {search.shortlist_size(len(found))})
  rows = {"cosine": lambda: search.cosine(asked, found), "chamfer": chamfer}
  rows |= {size: lambda size=size: two_stage(size) for size in sizes}
  seconds, tables = {row: [] for row in rows}, {}
  for _ in range(repeats + 1):  # the first compiles
    for row, fn in rows.items():
      start = time.perf_counter()
      tables[row] = np.asarray(fn())
      seconds[row].append(time.perf_counter() - start)
  return {row: statistics.median(s[1:]) for row, s in seconds.items()}, tables


def random_indexes(size: int, frames: int):
  """20 queries and `size` videos of about `frames` frames, as indexes."""
  low, high = frames // 2, 3 * frames // 2
  return indexed(make(frames, frames, 20, 0)), indexed(make(low, high, size, 1))


def table(evaluator, asked, found, missing, seconds, tables) -> list[tuple]:
  """Rows (name, share of the database, time, mAP by task), times and mAP relative to Chamfer's."""
  rows, base = [], None
  for row in ("chamfer", *(r for r in tables if r != "chamfer")):
    report = evaluator.measured(asked, found, {"x": tables[row]}, missing)
    means = {task: result.mean for task, result in report.results["x"].items()}
    base = base or (seconds[row], means)
    size = row if isinstance(row, int) else {"chamfer": len(found), "cosine": 0}[row]
    rows.append((str(row), size / len(found), seconds[row] / base[0],
                 {task: (mean, mean / base[1][task]) for task, mean in means.items()}))
  return rows


def show(rows, seconds: float) -> str:
  """The table in Markdown."""
  tasks = list(rows[0][3])
  head = ["shortlist", "share", "time", *tasks]
  lines = [f"Time is relative to Chamfer with all videos ({1e3 * seconds:.0f} ms); mAP, and in "
           "brackets the share of Chamfer's.", "", "| " + " | ".join(head) + " |",
           "|" + "---|" * len(head)]
  for name, share, cost, means in rows:
    cells = [f"{mean:.3f} ({of:.1%})" for mean, of in means.values()]
    lines.append("| " + " | ".join([name, f"{share:.1%}", f"{cost:.4f}", *cells]) + " |")
  return "\n".join(lines)


def draw(rows) -> Figure:
  """Accuracy against time, a line a task."""
  page = Figure(figsize=(7, 4.2), layout="constrained")
  axes = page.subplots()
  points = sorted((row for row in rows if row[0] != "chamfer"), key=lambda row: row[2])
  for task in rows[0][3]:
    line, = axes.plot([r[2] for r in points], [r[3][task][0] for r in points], "o-", label=task)
    axes.axhline(rows[0][3][task][0], color=line.get_color(), linestyle=":", linewidth=1)
  axes.axvline(1 / 20, color="#6b7280", linewidth=1)
  axes.text(1 / 20, axes.get_ylim()[0], " 1/20 of the time", color="#6b7280", va="bottom")
  axes.set(xscale="log", xlabel="time of the search, as a share of Chamfer with all videos",
           ylabel="mAP", title="Two stages: a shortlist by cosine, ranked by Chamfer (dotted: all)")
  axes.legend(frameon=False)
  return page


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--workdir", default="", help="a finished run")
  parser.add_argument("--size", type=int, default=0, help="random videos, in place of a run's")
  parser.add_argument("--frames", type=int, default=100, help="of each, with --size")
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--output", default="", help="a .png for the curve")
  args = parser.parse_args()
  if bool(args.workdir) == bool(args.size):
    parser.error("give either --workdir or --size")
  if args.size:
    seconds, _ = measure(*random_indexes(args.size, args.frames), args.repeats)
    print(f"20 queries of {args.frames} frames, {args.size} videos, "
          f"{jax.devices()[0].device_kind}; Chamfer with all: {seconds['chamfer']:.2f} s")
    for row, s in seconds.items():
      print(f"  {row}: {s / seconds['chamfer']:.4f} of the time")
    return
  evaluator, (asked, found, missing) = load(pathlib.Path(args.workdir))
  seconds, tables = measure(asked, found, args.repeats)
  rows = table(evaluator, asked, found, missing, seconds, tables)
  print(f"{len(asked)} queries, {len(found)} videos, {jax.devices()[0].device_kind}; the default "
        f"shortlist is {search.shortlist_size(len(found))} videos.\n")
  print(show(rows, seconds["chamfer"]))
  if args.output:
    draw(rows).savefig(args.output, dpi=130)


if __name__ == "__main__":
  main()
