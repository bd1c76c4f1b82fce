"""Files in a folder that is local or remote (gs://, s3://, memory://, ...), by their address.

Remote file systems are fsspec's: gs:// needs the package gcsfs, s3:// needs s3fs.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import IO, Any

from data_pipelines.encode import write_atomic
from data_pipelines.errors import DataError


def is_remote(address: str | os.PathLike) -> bool:
  """Whether it is an address such as gs://bucket/folder."""
  return "://" in os.fspath(address)


def normal(address: str | os.PathLike) -> str:
  """Absolute, without ~ and a slash at the end."""
  address = os.fspath(address)
  if is_remote(address):
    return address.rstrip("/")
  return str(pathlib.Path(address).expanduser().absolute())


def join(folder: str, name: str) -> str:
  """The address of a file in a folder."""
  return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else os.path.join(folder, name)


def make_folder(folder: str) -> None:
  """Makes a folder, and those above it, where it doesn't exist."""
  with _plain_errors(folder):
    if is_remote(folder):
      fs, path = _remote(folder)
      fs.makedirs(path, exist_ok=True)
    else:
      os.makedirs(folder, exist_ok=True)


def names(folder: str) -> list[str]:
  """The names of the files in a folder, sorted; none where there is no such folder."""
  with _plain_errors(folder):
    try:
      if not is_remote(folder):
        with os.scandir(folder) as scan:
          return sorted(entry.name for entry in scan if entry.is_file())
      fs, path = _remote(folder)
      found = fs.ls(path, detail=True)
      return sorted(f["name"].rsplit("/", 1)[-1] for f in found if f["type"] == "file")
    except FileNotFoundError:
      return []


def size(address: str) -> int | None:
  """Bytes of a file; None where there is no such file."""
  with _plain_errors(address):
    try:
      if not is_remote(address):
        return os.stat(address).st_size
      fs, path = _remote(address)
      return fs.info(path)["size"]
    except (FileNotFoundError, NotADirectoryError):
      return None


def read(address: str) -> bytes | None:
  """The bytes of a file; None where there is no such file."""
  with _plain_errors(address):
    try:
      with _opened(address) as file:
        return file.read()
    except (FileNotFoundError, NotADirectoryError):
      return None


def write(address: str, data: bytes) -> None:
  """Writes a file, or replaces it as a whole."""
  with _plain_errors(address):
    if not is_remote(address):
      write_atomic(address, data)
      return
    fs, path = _remote(address)
    fs.pipe_file(path, data)


def move(source: str | os.PathLike, address: str) -> None:
  """Moves a local file to an address; what is there is replaced as a whole.

  Where the address is local, too, both lie on one file system.
  """
  with _plain_errors(address):
    if is_remote(address):
      fs, path = _remote(address)
      fs.put_file(os.fspath(source), path)
      os.unlink(source)
    else:
      os.replace(source, address)


def remove(address: str) -> None:
  """Deletes a file, if there is one."""
  with _plain_errors(address), contextlib.suppress(FileNotFoundError):
    if is_remote(address):
      fs, path = _remote(address)
      fs.rm_file(path)
    else:
      os.unlink(address)


@contextlib.contextmanager
def open_file(address: str) -> Iterator[IO[bytes]]:
  """A file, for reading from its beginning on."""
  with _plain_errors(address), _opened(address) as file:
    yield file


def _opened(address: str) -> IO[bytes]:
  if not is_remote(address):
    return open(address, "rb")
  fs, path = _remote(address)
  return fs.open(path, "rb")


def _remote(address: str) -> tuple[Any, str]:
  import fsspec  # here, since local output should not wait for it

  fs, path = fsspec.core.url_to_fs(address)
  fs.invalidate_cache()  # other processes write, too
  return fs, path


@contextlib.contextmanager
def _plain_errors(address: str) -> Iterator[None]:
  try:
    yield
  except DataError:
    raise
  except ImportError as e:  # of the package for this kind of address
    raise DataError(f"{address}: {e} (gs:// needs the extra vssl_jax[gs], s3:// vssl_jax[s3])"
                    ) from e
  except OSError as e:
    raise DataError(f"{address}: {e.strerror or e}") from e
  except Exception as e:  # remote file systems raise errors of their own libraries
    if not is_remote(address):
      raise
    raise DataError(f"{address}: {type(e).__name__}: {e}") from e
