"""Mutants of videos: none crashes or hangs a decoder unseen, and every failure has a name.

VSSL_SLOW=1 tries 1,000 of real clips and 1,000 of rendered ones (some minutes).
"""

import os

import pytest

from data_pipelines.datasets import folder
from tests.data_pipelines import mutants

SLOW = os.environ.get("VSSL_SLOW") == "1"
SMALL = 300_000 if SLOW else 60_000  # bytes


@pytest.fixture(scope="module", params=["rendered", "real"])
def paths(request, tmp_path_factory):
  if request.param == "rendered":
    return mutants.rendered(tmp_path_factory.mktemp("rendered"))
  place = request.getfixturevalue("data_dir") / "clips"
  found = [p for p in folder.list_videos(place) if 0 < p.stat().st_size <= SMALL]
  if not found:
    pytest.skip(f"no small clips in {place}")
  return found


def test_mutants_are_read_or_refused(paths):
  count = 1000 if SLOW else 6 * len(mutants.KINDS)
  outcomes = mutants.run(paths, range(count))
  report = mutants.table(outcomes)
  print(report)
  assert len(outcomes) == count
  assert all(o.value for _, o in outcomes), report
  found = [o.value for _, o in outcomes]
  good = [f for f in found if not f["reason"]]
  assert all(f["n_frames"] >= 1 and f["height"] >= 1 and f["width"] >= 1 for f in good)
  reasons = {f["reason"] for f in found} - {""}
  assert all(len(r) < 100 and "\n" not in r for r in reasons), report
  assert max(o.memory for _, o in outcomes) < 2**30, report
  # Or the mutants would be too gentle, or too wild, to show anything.
  assert len(reasons) >= 3, report
  assert len(good) > count / 4, report
  assert sum(bool(f["warning"]) for f in good) > count / 20, report
  # Two decodes of a damaged file may differ, seldom.
  assert sum(f["disagree"] > 0 for f in found) <= count / 10, report


def test_mutants_can_be_made_again():
  sources = [bytes(range(256)) * 64, b"\0\0\0\x08moov" + bytes(5000)]
  for number in range(2 * len(mutants.KINDS)):
    which, kind, data = mutants.mutant(sources, number, seed=1)
    assert (which, kind, data) == mutants.mutant(sources, number, seed=1)
    assert data != mutants.mutant(sources, number, seed=2)[2] or kind == "block zeroed"
