"""Functions that hang, crash and hog memory, in processes of their own."""

import ctypes
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import psutil
import pytest

from data_pipelines import isolate

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOG = 400 * 2**20


def job(item):
  """What a decoder may do. `item` is (what, argument)."""
  what, argument = item
  if what == "double":
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return 2 * argument, os.getpid(), signal.SIGINT in blocked
  if what == "hang":  # deaf to everything, and never back in Python
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL})
    ctypes.CDLL(None).sleep(1000)
  elif what == "busy":
    while True:
      pass
  elif what == "segfault":
    ctypes.string_at(0)
  elif what == "signal":
    os.kill(os.getpid(), argument)
  elif what == "exit":
    os._exit(argument)
  elif what == "raise":
    raise ValueError(argument)
  elif what == "unpicklable":
    return lambda: argument
  elif what == "big":
    return np.full(argument, 7, np.uint8)
  elif what == "hog":
    hoard = [np.ones(2**20, np.uint8) for _ in range(argument // 2**20)]
    time.sleep(60)
    return len(hoard)
  elif what == "leak":
    job.hoard = np.ones(argument, np.uint8)
    return os.getpid()
  elif what == "spoilt":  # only in a process that was used before
    if getattr(job, "used", False):
      os.abort()
  elif what == "spoil":
    job.used = True
  return what


def children():
  return {process.pid for process in psutil.Process().children()
          if "resource_tracker" not in " ".join(process.cmdline())}


def run(items, workers=2, time_limit=20.0, **options):
  before = children()  # other tests may have left some
  outcomes = dict(isolate.run(job, items, workers=workers, time_limit=time_limit, **options))
  assert sorted(outcomes) == list(range(len(items)))
  assert not children() - before
  return [outcomes[i] for i in range(len(items))]


def test_every_item_gets_its_answer_whatever_happens_to_others():
  bad = {1: (("hang", 0), "took longer than 2 s"),
         4: (("segfault", 0), r"the decoder crashed (signal 11, SIGSEGV)"),
         5: (("busy", 0), "took longer than 2 s"),
         7: (("raise", "two\nlines"), "unexpected ValueError: two lines (test_isolate.py, line"),
         8: (("exit", 3), "the decoder's process ended (exit code 3)"),
         10: (("signal", signal.SIGKILL), "the decoder was killed (signal 9: out of memory?)"),
         11: (("unpicklable", 0), "unexpected ")}
  start = time.monotonic()
  got = run([bad[i][0] if i in bad else ("double", i) for i in range(13)], time_limit=2)
  assert time.monotonic() - start < 20
  for i, outcome in enumerate(got):
    if i in bad:
      assert outcome.value is None
      assert outcome.reason.startswith(bad[i][1])
    else:
      assert (outcome.value[0], outcome.reason) == (2 * i, "")
  assert 2 <= got[1].seconds < 3
  assert 2 <= got[5].seconds < 3


def test_processes_live_on_and_work_at_the_same_time():
  outcomes = run([("double", i) for i in range(50)])
  assert len({o.value[1] for o in outcomes}) <= 2
  assert os.getpid() not in {o.value[1] for o in outcomes}
  assert all(0 <= o.seconds < 1 for o in outcomes)
  assert run([]) == []


def test_an_answer_that_comes_late_does_not_count():
  (late,) = run([("double", 1)], time_limit=1e-9)
  assert (late.value, late.reason) == (None, "took longer than 1e-09 s")


def test_big_answers_arrive_whole():
  outcomes = run([("big", 30_000_000 + i) for i in range(3)])
  assert [(len(o.value), o.value.min()) for o in outcomes] == [
      (30_000_000 + i, 7) for i in range(3)]


def test_memory_is_bounded():
  hog, other = run([("hog", HOG), ("double", 1)], memory_limit=HOG // 2)
  assert hog.reason == "needed more than 0.195312 GiB of memory"
  assert HOG // 2 < hog.memory < 2 * HOG
  assert other.value[0] == 2
  assert 2**23 < other.memory < HOG // 2


def test_what_a_process_keeps_is_no_other_items_fault():
  leaks = run([("leak", HOG // 2)] * 3, workers=1, memory_limit=HOG * 3 // 4)
  assert [o.reason for o in leaks] == [""] * 3
  assert len({o.value for o in leaks}) == 3


def test_a_crash_is_tried_again_in_a_process_of_its_own():
  assert [o.value for o in run([("spoil", 0), ("spoilt", 0)], workers=1)] == ["spoil", "spoilt"]


def test_closing_ends_the_processes():
  outcomes = isolate.run(job, [("double", 1), ("hang", 0)], workers=2, time_limit=100)
  _, first = next(outcomes)
  outcomes.close()
  assert not psutil.pid_exists(first.value[1])
  assert run([]) == []  # no child is left


def test_a_process_that_can_not_start_is_an_error(tmp_path, monkeypatch, capfd):
  (tmp_path / "broken.py").write_text(textwrap.dedent("""
    import os
    if "BROKEN" in os.environ:
      raise ImportError("not here")
    def job(item):
      pass
  """))
  monkeypatch.syspath_prepend(tmp_path)
  import broken
  monkeypatch.setenv("BROKEN", "1")
  with pytest.raises(RuntimeError, match=r"didn't start: .* \(exit code 1\)"):
    list(isolate.run(broken.job, [1], workers=1, time_limit=5))
  assert "not here" in capfd.readouterr().err


PROGRAM = """
  from data_pipelines import isolate
  from tests.data_pipelines.test_isolate import job

  if __name__ == "__main__":
    items = [("double", 0), ("busy", 0)]
    try:
      for _, outcome in isolate.run(job, items, workers=1, time_limit=100):
        print(outcome.value[2], flush=True)
    except KeyboardInterrupt:
      print("interrupted", flush=True)
"""


def test_ctrl_c_ends_all_and_none_complains(tmp_path):
  (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
  program = subprocess.Popen([sys.executable, tmp_path / "program.py"], text=True,
                             env=os.environ | {"PYTHONPATH": str(ROOT)}, start_new_session=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
  assert program.stdout.readline() == "True\n"  # deaf to Ctrl-C, the first worker too
  children = psutil.Process(program.pid).children()
  os.killpg(program.pid, signal.SIGINT)  # as a terminal does it: to all
  try:
    out, err = program.communicate(timeout=40)
  except subprocess.TimeoutExpired:  # it fell where Python drops exceptions; people press again
    os.killpg(program.pid, signal.SIGINT)
    out, err = program.communicate(timeout=40)
  assert (out, err, program.returncode) == ("interrupted\n", "", 0)
  assert psutil.wait_procs(children, timeout=5)[1] == []


@pytest.mark.parametrize("busy", [False, True])
def test_workers_without_a_parent_end(busy):
  """One that waits at the end of its pipe; one that hangs by its own timer, a minute late."""
  ours, theirs = isolate.CONTEXT.Pipe()
  process = isolate.CONTEXT.Process(target=isolate._serve, args=(theirs, job, -59.5), daemon=True)
  process.start()
  theirs.close()
  ours.recv_bytes()
  if busy:
    ours.send_bytes(pickle.dumps(("busy", 0)))
  ours.close()
  process.join(10)
  assert process.exitcode == (-signal.SIGALRM if busy else 0)
