"""Why a file can't be opened as a video, in a few plain words."""

import os
import pathlib
import stat

from data_pipelines.errors import VideoError

HEAD = 4096  # bytes looked at


def check(name: str, source: pathlib.Path | bytes) -> None:
  """Refuses what needs no decoder to refuse.

  Raises:
    VideoError: missing, a folder, no permission, empty, or text. Text is refused here because
      FFmpeg would read play lists, which name other files, and draw plain text as a picture.
  """
  head = first_bytes(name, source)
  if _is_text(head):
    page = head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml"))
    raise VideoError(name, f"not a video ({'a web page' if page else 'text'})")


def first_bytes(name: str, source: str | os.PathLike | bytes) -> bytes:
  """The beginning of a file, or of bytes; at least one byte.

  Raises:
    VideoError: missing, a folder, no permission, empty, ...
  """
  if isinstance(source, bytes):
    head = source[:HEAD]
  else:
    try:
      mode = os.stat(source).st_mode
      if stat.S_ISDIR(mode):
        raise VideoError(name, "is a folder")
      if not stat.S_ISREG(mode):
        raise VideoError(name, "is not a regular file")
      head = _head(source)
    except FileNotFoundError as e:
      raise VideoError(name, "file not found") from e
    except PermissionError as e:
      raise VideoError(name, "permission denied") from e
    except OSError as e:
      raise VideoError(name, f"can't be read ({e.strerror})") from e
  if not head:
    raise VideoError(name, "empty file")
  return head


def why_not_opened(source: pathlib.Path | bytes) -> str:
  """A reason for a file that `check` let pass and FFmpeg refused."""
  try:
    head = source[:HEAD] if isinstance(source, bytes) else _head(source)
  except OSError as e:  # it was there a moment ago
    return f"can't be read any more ({e.strerror})"
  if head[4:8] in (b"ftyp", b"mdat", b"wide", b"free", b"skip"):
    return "incomplete mp4 or mov (no moov index: cut off while it was written or downloaded)"
  if head[4:8] == b"moov" or head[:4] in (b"\x1aE\xdf\xa3", b"RIFF"):
    return "damaged video (its header can't be read)"
  return "not a video"


def _head(path: str | os.PathLike) -> bytes:
  with open(path, "rb") as f:
    return f.read(HEAD)


def _is_text(head: bytes) -> bool:
  """Whether bytes are UTF-8 without control characters; a character may be cut at the end."""
  if any(b < 32 and b not in b"\t\n\r\f\x1b" for b in head):
    return False
  try:
    head.decode()
  except UnicodeDecodeError as e:
    return e.start > 0 and e.start >= len(head) - 3 and e.reason == "unexpected end of data"
  return True
