"""A sweep as a user starts it: tables, what fails, what is found again after Ctrl-C."""

import json
import signal
import textwrap

import pytest

from tests.experiments import harness

CONFIG = """
  from experiments import tca
  from experiments.ablation import Table, pick

  get_config = tca.get_config

  def sweep(name=""):
    if name == "none":
      return []
    if name == "words":
      return ["loss"]
    return pick([
        Table("loss", "Losses", {"circle": {}, "triplet": {"method.args.loss": "triplet"}},
              [("circle", ">", "triplet")]),
        Table("bank", "Banks", {"of 64": {"method.args.bank_size": 64},
                                "of 4": {"method.args.bank_size": 4}}),
        Table("wrong", "Wrong", {"key": {"method.args.bank_siz": 4}}),
    ][:2 if not name else 3], name)
"""
MODULE = "experiments.sweep"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
  path = tmp_path_factory.mktemp("config") / "small.py"
  path.write_text(textwrap.dedent(CONFIG))
  return path


def argv(file, workdir, cache, *more):
  return [*harness.train(workdir, cache, config=file, train__steps=8), "--seeds=2", *more]


@pytest.fixture(scope="module")
def swept(file, cache, server, tmp_path_factory):
  """The folder and the output of a sweep, in which one row fails."""
  workdir = tmp_path_factory.mktemp("sweep")
  return workdir, server.run(*argv(file, workdir, cache), module=MODULE)


def results(workdir):
  return {p.parent.name: json.loads(p.read_text()) for p in workdir.glob("*/results.json")}


def test_a_row_that_fails_is_told_and_the_others_go_on(swept):
  workdir, result = swept
  assert result.status == 1, result.err
  assert "Traceback" not in result.err
  assert result.err.count("failed: ") == 2  # once a seed
  assert "8 new keys do not fit into a bank of 4" in result.err
  assert "row 1 of 3, seed 0 (loss: circle), run 1 of 6\n" in result.out
  assert "row 2 of 3, seed 1 (loss: triplet), run 5 of 6, about " in result.out
  assert "Failed: of 4, seed0-" in result.out
  assert len(results(workdir)) == 4  # "of 64" is "circle"


def test_tables_hold_the_numbers_of_the_runs(swept):
  workdir, result = swept
  text = (workdir / "tables.md").read_text()
  assert text.rstrip() in result.out
  tables = json.loads((workdir / "tables.json").read_text())
  loss, bank = tables["tables"]
  assert tables["runs"] == 4
  for name in ("circle", "triplet"):
    runs = [results(workdir)[f]["rows"] for f in loss["settings"][name]["folders"]]
    assert [list(rows) for rows in runs] == [["trained TCA"]] * 2
    x, y = (rows["trained TCA"]["DSVR/cosine"] for rows in runs)
    cell = loss["rows"][name]["DSVR/cosine"]
    assert cell["mean"] == pytest.approx((x + y) / 2)
    assert cell["std"] == pytest.approx(abs(x - y) / 2**0.5)
    assert f"{cell['mean']:.3f} ± {cell['std']:.3f}" in text
  assert bank["rows"]["of 64"] == loss["rows"]["circle"] != loss["rows"]["triplet"]
  assert bank["rows"]["of 4"] == {}
  assert {t["column"] for t in loss["expected"]} == {f"{t}/cosine" for t in ("DSVR", "CSVR",
                                                                            "ISVR")}
  assert not list(workdir.glob("*/export")) and not list(workdir.glob("*/*.png"))


def test_finished_runs_are_not_run_again(swept, file, cache, server):
  workdir, _ = swept
  before = {p: p.stat().st_mtime_ns for p in workdir.glob("*/*.json*")}
  result = server.run(*argv(file, workdir, cache, "--sweep=loss"), module=MODULE)
  assert result.status == 0, result.err
  assert {p: p.stat().st_mtime_ns for p in workdir.glob("*/*.json*")} == before
  assert "row 1" not in result.out and "## Losses" in result.out and "## Banks" not in result.out


def test_ctrl_c_stops_after_saving_and_the_same_command_continues(
    swept, file, cache, server, tmp_path):
  reference, _ = swept
  process = server.start(*argv(file, tmp_path / "run", cache, "--sweep=loss"), module=MODULE)

  def second_began():
    done = [p.parent for p in (tmp_path / "run").glob("*/results.json")]
    rows = [p for p in (tmp_path / "run").glob("*/metrics.jsonl") if p.read_bytes()]
    return done and any(p.parent not in done for p in rows)

  assert process.until(second_began)
  process.popen.send_signal(signal.SIGINT)
  result = process.wait(60)
  assert result.status == 0, result.err
  assert "the same command continues from here" in result.out + result.err
  left = len(results(tmp_path / "run"))
  assert 1 <= left < 4
  result = server.run(*argv(file, tmp_path / "run", cache, "--sweep=loss"), module=MODULE)
  assert result.status == 0, result.err
  assert f"run {left + 1} of 4" in result.out and f"run {left} of 4" not in result.out
  want, got = results(reference), results(tmp_path / "run")
  assert {k: v["rows"] for k, v in got.items()} == {k: v["rows"] for k, v in want.items()}


TCA = "--config=experiments/tca.py"
ERRORS = {  # flags -> what the error says; FILE is the config above
    ("--config=FILE", "--sweep=los"): "--sweep=los: no such table; did you mean 'loss'?",
    ("--config=FILE", "--sweep=none"): "sweep('none') should yield ablation.Tables, not nothing",
    ("--config=FILE", "--sweep=words"): "sweep('words') should yield ablation.Tables, not str",
    ("--config=FILE", "--sweep=wrong"): "sweep 'wrong', row 'key': method.args.bank_siz: config."
                                        "method.args has no 'bank_siz'; did you mean 'bank_size'?",
    ("--config=PLAIN",): "plain.py has no sweep(): define one that yields tables",
    (TCA, "--seeds=0"): "seeds=0",
    (TCA, "--mode=eval"): "--mode is for experiments.run; a sweep trains, in one process",
    (TCA, "--processes=2"): "--processes is for experiments.run",
    (TCA, "--output=x"): "--output is for --mode=extract",
    (): "which experiment? For example --config=experiments/tca.py",
}


@pytest.mark.parametrize("flags", ERRORS, ids=" ".join)
def test_errors(server, file, tmp_path, flags):
  plain = tmp_path / "plain.py"
  plain.write_text("from experiments.tca import get_config\n")
  given = [f.replace("FILE", str(file)).replace("PLAIN", str(plain)) for f in flags]
  result = server.run(*given, f"--workdir={tmp_path / 'run'}", module=MODULE)
  assert result.status == 2, result.out + result.err
  assert "Traceback" not in result.err and ERRORS[flags] in result.err
  assert not (tmp_path / "run").exists()
