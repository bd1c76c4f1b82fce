"""Which videos of a folder are held out: by a hash of each one's id, so that adding one moves none.

Readers of folders without lists of their own have the splits "all", "train" and "heldout"; the
same ids are in "heldout" whatever a reader makes of the files.
"""

import hashlib
from collections.abc import Sequence

from data_pipelines.errors import DataError

SPLITS = {"all": {}, "train": {}, "heldout": {}}


def share(*parts: object) -> float:
  """A number in [0, 1) that depends on nothing but the arguments."""
  digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
  return int.from_bytes(digest[:6], "big") / 2**48


def choose(ids: Sequence[str], holdout: float, seed: int) -> set[str]:
  """At least one id, and all but at least two."""
  shares = {i: share(seed, "holdout", i) for i in ids}
  ranked = sorted(ids, key=shares.get)
  count = sum(s < holdout for s in shares.values())
  return set(ranked[:min(max(1, count), len(ids) - 2)])


def part(ids: Sequence[str], split: str, holdout: float, seed: int, name: str) -> set[str]:
  """The ids of a split.

  Args:
    holdout: share of the videos that is held out; 0 for none.
    name: of the data set, for messages.

  Raises:
    DataError: `holdout` is no share, or the split is empty.
  """
  if not 0 <= holdout < 1:
    raise DataError(f"{name}: holdout is a share from 0 to 1 (0.2: every fifth video), got "
                    f"{holdout}")
  if split == "all":
    return set(ids)
  held = choose(ids, holdout, seed) if holdout and len(ids) > 2 else set()
  found = held if split == "heldout" else set(ids) - held
  if not found:
    raise DataError(f"{name}: of {len(ids)} video(s) none are held out; three are needed at least, "
                    "and a holdout above 0")
  return found
