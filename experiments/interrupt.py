"""Ctrl-C and SIGTERM: heard where they come, or between two steps."""

import os
import signal


class Interrupt:
  """Makes Ctrl-C and SIGTERM raise KeyboardInterrupt, and remembers them.

  Python drops an exception that a signal raises inside a callback or a destructor, of which there
  are many below JAX and Grain; `check` then raises it again where it can't be lost.
  """

  def __init__(self):
    self._came = False

  def catch(self) -> None:
    """Installs the handler for both signals."""
    for number in (signal.SIGINT, signal.SIGTERM):
      signal.signal(number, self._handle)

  def check(self) -> None:
    """Raises KeyboardInterrupt if a signal has come."""
    if self._came:
      raise KeyboardInterrupt

  def _handle(self, number, frame):
    del number, frame
    self._came = True
    raise KeyboardInterrupt


INTERRUPT = Interrupt()


class Stop:
  """In `with Stop() as stop:` the first Ctrl-C or SIGTERM makes `stop()` true and does no more.

  So training ends between two steps and is saved. A second one raises KeyboardInterrupt, as either
  does everywhere else: all other work is kept as it is done.
  """

  def __enter__(self):
    self._asked = False
    self._before = {n: signal.signal(n, self._handle) for n in (signal.SIGINT, signal.SIGTERM)}
    return self

  def __exit__(self, *_):
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def __call__(self) -> bool:
    return self._asked

  def _handle(self, number, frame):
    if self._asked:
      signal.default_int_handler(number, frame)
    self._asked = True
    # Not print(), which may be at work when the signal comes.
    os.write(2, b"\nstopping: saving first; press Ctrl-C again to leave at once\n")
