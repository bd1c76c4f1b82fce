"""Is a data set whole? What was found on disk against the published counts and the lists."""

import logging
from collections.abc import Mapping, Sequence

from data_pipelines.errors import DataError

_SHOWN = 3  # missing names in a message


def check(dataset_name: str, split: str, found: Mapping[str, int], expected: Mapping[str, int],
          missing: Sequence[str], allow_missing: bool) -> None:
  """Compares what was found with what should be there.

  Args:
    dataset_name, split: for the message.
    found: what is counted ("videos", "classes", "boxes", ...) -> how many are there; the first is
      what `missing` lists.
    expected: the same for the published counts; keys that only one of the two has are not
      compared, so {} expects nothing.
    missing: ids or paths that a list of the data set names and that are not on disk.
    allow_missing: log a warning in place of the error.

  Raises:
    DataError: something is missing or too much, and `allow_missing` is false. The message has the
      numbers and the first missing ids.
  """
  problems = [f"{expected[key]:,} {key} expected, {found[key]:,} found"
              for key in expected if key in found and found[key] != expected[key]]
  if missing:
    shown = ", ".join(sorted(missing)[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
    what = next(iter(found), "files")
    what = f"{what.removesuffix('s')} is" if len(missing) == 1 else f"{what} are"
    problems.append(f"{len(missing):,} listed {what} missing (first: {shown})")
  if not problems:
    return
  message = f"{dataset_name} {split}: {'; '.join(problems)}"
  if not allow_missing:
    raise DataError(f"{message}; pass allow_missing=True (--allow_missing) to go on without them"
                    if missing or _short(found, expected) else
                    f"{message}, more than the data set has; remove what doesn't belong to it, or "
                    "pass allow_missing=True (--allow_missing) to go on with all")
  logging.getLogger(__name__).warning("%s; going on with what is there", message)


def _short(found: Mapping[str, int], expected: Mapping[str, int]) -> bool:
  return any(found[key] < expected[key] for key in expected if key in found)
