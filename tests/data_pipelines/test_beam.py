"""The same shards by Beam's local runner as by the local pool.

Beam needs an environment of its own (`pip install .[beam]`): the tests run where it can be
imported, or with the Python that VSSL_BEAM_PYTHON names.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

from tests.data_pipelines import clips

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = sys.executable if importlib.util.find_spec("apache_beam") else os.environ.get(
    "VSSL_BEAM_PYTHON", "")
with_beam = pytest.mark.skipif(not PYTHON, reason="apache_beam is not installed here, and "
                               "VSSL_BEAM_PYTHON names no Python that has it")


def run(python, folder, output, *flags):
  command = [python, "-m", "data_pipelines.prepare", "--dataset=folder", f"--input={folder}",
             f"--output={output}", "--short_side=32", "--shards=3", "--max_bad_fraction=0.2",
             *flags]
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def contents(folder):
  return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*")
          if p.is_file() and p.name != "lock"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
  folder = tmp_path_factory.mktemp("videos")
  for k in range(7):
    (folder / f"{k}.mp4").write_bytes(clips.encode(clips.numbered(8, first=k)))
  (folder / "bad.mp4").write_bytes(b"\0\1\2" * 100)
  return folder


@with_beam
def test_the_same_bytes_as_the_local_pool(videos, tmp_path):
  out = run(PYTHON, videos, tmp_path / "pool", "--workers=1")
  assert out.returncode == 0, out.stderr
  out = run(PYTHON, videos, tmp_path / "beam", "--runner=DirectRunner",
            "--direct_running_mode=in_memory")
  assert out.returncode == 0, out.stderr
  assert "7 records with 56 frames in 3 shards; 1 can't be used" in out.stdout
  assert contents(tmp_path / "beam") == contents(tmp_path / "pool")


@with_beam
def test_beam_goes_on_where_the_pool_stopped(videos, tmp_path):
  run(PYTHON, videos, tmp_path / "out", "--workers=1")
  before = contents(tmp_path / "out")
  first, second, _ = sorted(p for p in (tmp_path / "out").iterdir() if ".array_record-" in p.name)
  first.unlink()
  kept = second.stat().st_mtime_ns
  out = run(PYTHON, videos, tmp_path / "out", "--runner=DirectRunner")
  assert out.returncode == 0, out.stderr
  assert contents(tmp_path / "out") == before and second.stat().st_mtime_ns == kept


@pytest.mark.skipif(importlib.util.find_spec("apache_beam") is not None, reason="Beam is here")
def test_without_beam_it_is_said_what_to_install(videos, tmp_path):
  out = run(sys.executable, videos, tmp_path, "--runner=DirectRunner")
  assert out.returncode == 2 and "pip install vssl_jax[beam]" in out.stderr
  assert "Traceback" not in out.stderr
