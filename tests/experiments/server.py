"""Imports the command line once and runs it in a forked child for each request.

`python server.py` reads requests from stdin, one JSON object a line, and answers each with a line:
  {"argv", "cwd", "stdout" and "stderr" (files to write), "file_limit" (largest file in bytes, or
  null), "module" (whose `main` it is), "environ" (changes)} -> the process id of the child;
  {"pid"} of a child -> its exit status, negative after a signal; null while it runs.
"""

import importlib
import json
import os
import resource
import sys
import traceback

from experiments import modes  # noqa: F401 (imported once, here)
from experiments import run as command_line


def serve() -> None:
  """Answers requests until stdin ends."""
  for line in sys.stdin:
    request = json.loads(line)
    if "pid" in request:
      ended, status = os.waitpid(request["pid"], os.WNOHANG)
      answer = os.waitstatus_to_exitcode(status) if ended else None
    else:
      answer = os.fork()
      if not answer:
        _become(request)
    print(json.dumps(answer), flush=True)


def _become(request: dict) -> None:
  os.setsid()
  for number, name in ((0, os.devnull), (1, request["stdout"]), (2, request["stderr"])):
    os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
  os.chdir(request["cwd"])
  os.environ.update(request["environ"])
  if request["file_limit"] is not None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_limit"],) * 2)
  sys.argv = ["run.py", *request["argv"]]
  status = 1
  try:
    command_line.run(importlib.import_module(request["module"]).main)
    status = 0
  except SystemExit as e:
    status = e.code if isinstance(e.code, int) else int(e.code is not None)
  except BaseException:
    traceback.print_exc()
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
  serve()
  os._exit(0)  # there is nothing to clean up
