"""A function over many items in worker processes, since decoders hang, crash and eat memory.

Whatever happens to one item, the others get their answers: a worker that breaks a limit is killed,
one that dies is noticed, both are replaced. (`multiprocessing.Pool` waits for ever for an answer
that a dead process owes it; `concurrent.futures` gives up all items with one process, and can't
stop one that hangs.)
"""

import collections
import contextlib
import dataclasses
import math
import multiprocessing
import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import connection, resource_tracker
from typing import Any

import psutil

POLL = 0.1  # seconds between two looks at the workers
START_LIMIT = 300.0  # seconds for a process to start and import, from the slowest of disks
# Spawned processes copy no thread or lock of this one, and are what macOS can do, too.
CONTEXT = multiprocessing.get_context("spawn")


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
  """What became of one item.

  Attributes:
    value: what the function returned; None where it didn't return.
    reason: "" or why there is no value: "took longer than 60 s", "the decoder crashed (signal 11,
      SIGSEGV)", "needed more than 4 GiB of memory", "unexpected ValueError: ...".
    seconds: that it took.
    memory: bytes, the largest resident memory that was seen of its process meanwhile.
  """

  value: Any
  reason: str
  seconds: float
  memory: int


def default_workers() -> int:
  """As many processes as this one has cores."""
  if hasattr(os, "sched_getaffinity"):  # a container may have fewer than its machine
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def run(function: Callable[[Any], Any], items: Iterable[Any], *, workers: int, time_limit: float,
        memory_limit: int = 4 * 2**30) -> Iterator[tuple[int, Outcome]]:
  """Calls the function on each item, in processes that live on from item to item.

  Where a process dies that worked on other items before, which may have spoilt it, the item is
  tried once more.

  Args:
    function: importable by name in a new process; so is what it returns.
    items: what can be pickled; all are taken at the start.
    workers: processes at a time.
    time_limit: seconds an item.
    memory_limit: bytes of resident memory a process, looked at every 0.1 s. (RLIMIT_AS means
      nothing on macOS, and elsewhere counts what is reserved and never used.)

  Yields:
    (place of the item, Outcome), in the order in which they finish: with one worker that of the
    items. Closing the iterator, or an exception such as KeyboardInterrupt, kills the processes.

  Raises:
    RuntimeError: a process can't start; it says why on standard error.
  """
  waiting = collections.deque(enumerate(items))
  pool, retried = [], set()
  try:
    while waiting or any(w.task for w in pool):
      for _ in range(min(workers, len(waiting) + sum(w.task is not None for w in pool))
                     - len(pool)):
        pool.append(_Worker(function, time_limit, memory_limit))
      readable = connection.wait([w.link for w in pool], POLL)
      finished = []
      for worker in pool:
        task, outcome = worker.task, worker.look(worker.link in readable)
        if outcome and worker.crashed and worker.used and task[0] not in retried:
          retried.add(task[0])
          waiting.appendleft(task)
        elif outcome:
          finished.append((task[0], outcome))
      pool = [w for w in pool if w.alive]
      for worker in pool:
        if worker.ready and not worker.task and waiting:
          worker.give(waiting.popleft())
      yield from finished
  finally:
    for worker in pool:
      worker.kill()


class _Worker:
  """One process.

  Attributes:
    link: the pipe to it; at its end where the process is.
    ready: whether it has started.
    task: (place, item) that it is at work on; None while it waits.
    used: whether it has finished an item.
    alive: False from the moment when it is not to be used any more; crashed: it ended by itself.
  """

  def __init__(self, function: Callable, time_limit: float, memory_limit: int):
    self._limits = time_limit, memory_limit
    self.link, theirs = CONTEXT.Pipe()
    self._process = CONTEXT.Process(target=_serve, args=(theirs, function, time_limit),
                                    daemon=True)
    with _interrupts_blocked():
      self._process.start()
    theirs.close()
    self._status = psutil.Process(self._process.pid)
    self.task, self.ready, self.used, self.alive, self.crashed = None, False, False, True, False
    self._begin(START_LIMIT)

  def give(self, task: tuple[int, Any]) -> None:
    """Sends it a task."""
    self.task = task
    self._begin(self._limits[0])
    with contextlib.suppress(ConnectionError):  # it died while it waited; `look` will see that
      self.link.send_bytes(pickle.dumps(task[1]))

  def look(self, readable: bool) -> Outcome | None:
    """Takes what it sent, if it sent anything, and enforces the limits; its task's outcome."""
    memory = self._memory()
    self._peak = max(self._peak, memory)
    if readable:
      try:
        message = pickle.loads(self.link.recv_bytes())
      except (EOFError, OSError):
        self.crashed = True
        return self._end(self._last_words())
      return self._take(*message, memory)
    if time.monotonic() > self._deadline:
      return self._end(self._too_long())
    if memory > self._limits[1]:
      return self._end(f"needed more than {self._limits[1] / 2**30:g} GiB of memory")
    return None

  def kill(self) -> None:
    """Ends it at once; more than once does no harm."""
    self.alive = False
    self._process.kill()
    self._process.join(5)  # one that waits for a dead disk stays; the system will end it
    self.link.close()

  def _begin(self, limit: float) -> None:
    self._peak, self._began, self._limit = 0, time.monotonic(), limit
    self._deadline = self._began + limit

  def _take(self, value: Any, reason: str, seconds: float, memory: int) -> Outcome | None:
    self._deadline = math.inf
    if not self.ready:
      self.ready = True
      return None
    self.task, self.used = None, True
    if memory > self._limits[1] / 2:  # no item should pay for what others left behind
      self.kill()
    if seconds > self._limit:  # and got ready between two looks
      value, reason = None, self._too_long()
    return Outcome(value, reason, seconds, self._peak)

  def _end(self, reason: str) -> Outcome | None:
    self.kill()
    if not self.ready:
      raise RuntimeError(f"a worker process didn't start: {reason}")
    task, self.task = self.task, None
    return task and Outcome(None, reason, time.monotonic() - self._began, self._peak)

  def _too_long(self) -> str:
    return f"took longer than {self._limit:g} s"

  def _memory(self) -> int:
    try:
      return self._status.memory_info().rss
    except psutil.Error:  # it has ended
      return 0

  def _last_words(self) -> str:
    self._process.join(5)
    code = self._process.exitcode
    if code is None or code >= 0:
      return f"the decoder's process ended (exit code {code})"
    if code == -signal.SIGALRM:
      return self._too_long()
    if code == -signal.SIGKILL:
      return "the decoder was killed (signal 9: out of memory?)"
    named = {s.value: f", {s.name}" for s in signal.Signals}
    return f"the decoder crashed (signal {-code}{named.get(-code, '')})"


def _serve(link: connection.Connection, function: Callable, time_limit: float) -> None:
  """The work of a process: answers items until the pipe ends."""
  link.send_bytes(pickle.dumps((None, "", 0.0)))  # started
  while True:
    try:
      item = pickle.loads(link.recv_bytes())
    except (EOFError, OSError):
      return
    # A parent that was killed kills nobody: then this ends a decoder that hangs.
    signal.setitimer(signal.ITIMER_REAL, time_limit + 60)
    start = time.perf_counter()
    try:
      answer = pickle.dumps((function(item), "", time.perf_counter() - start))
    except Exception as e:  # the function is anybody's, and the answer has to go somewhere
      where = traceback.extract_tb(e.__traceback__)[-1]
      reason = (f"unexpected {type(e).__name__}: {' '.join(str(e).split())} "
                f"({os.path.basename(where.filename)}, line {where.lineno})")
      answer = pickle.dumps((None, reason, time.perf_counter() - start))
    signal.setitimer(signal.ITIMER_REAL, 0)
    try:
      link.send_bytes(answer)
    except OSError:
      return  # nobody waits for it any more


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
  """Processes started here never see Ctrl-C, which a terminal sends to all: the parent decides."""
  resource_tracker.ensure_running()  # otherwise it starts with the first process, and unblocks
  before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
