"""One writer at a time, among the processes that share a file system."""

import fcntl
import logging
import os
from typing import IO

logger = logging.getLogger(__name__)


def hold(path: str | os.PathLike, *, wait: bool) -> IO:
  """Locks the file `path`, made where it doesn't exist, until the result is closed.

  The lock ends with the process, however that ends. Where the file system knows no locks, nothing
  is locked.

  Raises:
    BlockingIOError: another process holds the lock, and `wait` is False.
    OSError: the file can't be opened.
  """
  file = open(path, "a")
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    if not wait:
      file.close()
      raise
    logger.warning("waiting for another process that writes %s", os.path.dirname(path))
    fcntl.flock(file, fcntl.LOCK_EX)
  except OSError as e:
    logger.warning("%s can't be locked (%s): start one run at a time", path, e.strerror)
  return file
