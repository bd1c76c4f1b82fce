"""From the files that the authors of retrieval data sets publish to our lists."""

import gzip
import json
import subprocess
import sys

import pytest

from data_pipelines import annotations
from data_pipelines.datasets import annotations as lists
from data_pipelines.errors import DataError
from tests.conftest import ROOT


def write(folder, files):
  for name, text in files.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


FIVR = {"dataset/annotation.json": json.dumps({"q2": {"ND": ["a"], "DA": ["b"]}, "q1": {"IS": []}}),
        "dataset/youtube_ids.txt": "b\nq1\nq2\na\n", "dataset/events.json": "{}"}
VCDB = {
  "annotation/baggio_penalty_1994.txt":
    "cc.flv,aa.mp4,00:00:03,00:00:41,00:00:00,00:00:38\n"
    "cc.flv,aa.mp4,00:01:00,00:01:10,00:02:00,00:02:10\n"  # a second segment
    "aa.mp4,cc.flv,00:00:01,00:00:02,00:00:01,00:00:02\n"  # and the other way round
    "aa.mp4,aa.mp4,00:00:00,00:01:00,00:00:00,00:01:00\n",
  "annotation/zidane_headbutt.txt": "bb.mp4,dd.mp4,00:00:00,00:00:09,00:00:00,00:00:09\n",
  "background_dataset/1/-x_y.mp4": "", "background_dataset/0/Zz.flv": "",
  "background_dataset/0/notes.txt": ""}
EVVE = {"annots/strokkur+geyser.dat": "q2 1 query\np2 1 database\nn1 -1 database\nq1 1 query\n",
        "annots/dsk+arrested.dat": "p1 1 database\nq3 1 query\nn1 -1 database\nz0 0 database\n",
        "annots/README.txt": "text"}
CC = {"Video_List.txt": "1\t1\tYouTube\t1_1_Y.flv\thttp://a\n2\t1\tGoogle\t1_2_G.avi\thttp://b\n"
                        "3\t1\tYahoo\t1_3_H.flv\t\n5\t2\tYouTube\t2_1_Y.mpg\thttp://c\n",
      "Seed.txt": "2\t5\n*1\t2\n", "GT/GT_1.rst": "1\tE\n2\tV\n3\t-1\n",
      "GT/GT_2.rst": "5 E\n7 X\n"}
FILES = {"fivr": FIVR, "vcdb": VCDB, "evve": EVVE, "cc_web_video": CC}


@pytest.fixture
def convert(tmp_path):
  """Official files of a data set -> what our reader makes of the converted ones."""
  def run(dataset, files):
    write(tmp_path / "in", files)
    annotations.convert(dataset, tmp_path / "in", tmp_path / "out")
    return getattr(lists, f"read_{dataset}")(tmp_path / "out")
  return run


def test_fivr(convert):
  found = convert("fivr", FIVR)
  assert found.queries_200k == ("q2", "q1") and found.database_200k == ("b", "q1", "q2", "a")
  assert found.annotation_official_latest["q2"] == {"ND": ["a"], "DA": ["b"]}
  assert found.annotation == {} and found.database_5k == ()


def test_vcdb(convert):
  found = convert("vcdb", VCDB)
  assert found.core == ("aa", "bb", "cc", "dd")
  assert found.pairs == (("cc", "aa"), ("bb", "dd"))  # once, as the first line has it
  assert found.background == found.distractors == ("-x_y", "Zz")


def test_vcdb_without_background(convert):
  files = {name.removeprefix("annotation/"): text for name, text in VCDB.items()
           if name.startswith("annotation/")}
  assert convert("vcdb", files).background == ()


def test_evve(convert):
  found = convert("evve", EVVE)
  assert found.event_of == {"q1": "strokkur+geyser", "q2": "strokkur+geyser", "q3": "dsk+arrested"}
  assert found.positives == {"dsk+arrested": ("p1",), "strokkur+geyser": ("p2",)}
  assert set(found.database) == {"p1", "p2", "n1", "z0"} and len(found.database) == 4


def test_cc_web_video(convert):
  found = convert("cc_web_video", CC)
  assert found.queries == ("1_2_G", "2_1_Y") and found.database == ("1_1_Y", "1_2_G", "2_1_Y")
  assert found.labels == {"1_2_G": {"1_1_Y": "E", "1_2_G": "V"},
                          "2_1_Y": {"2_1_Y": "E", "#7": "X"}}
  assert found.excluded == {"1_2_G": (), "2_1_Y": ()}


@pytest.mark.parametrize(("dataset", "name", "text", "words"), [
  ("fivr", "dataset/annotation.json", "[1]", r"annotation\.json: should be query -> label"),
  ("fivr", "dataset/annotation.json", "{", r"annotation\.json: not readable JSON"),
  ("fivr", "dataset/annotation.json", None, r"annotation\.json: no such file"),
  ("fivr", "dataset/youtube_ids.txt", "\n", r"youtube_ids\.txt: is empty"),
  ("vcdb", "annotation/zidane_headbutt.txt", "a,b,c\n", r"zidane_headbutt\.txt: line 1 is 'a,b,c'"),
  ("evve", "annots/dsk+arrested.dat", "p1 1 database\np2 yes database\n",
   r"dsk\+arrested\.dat: line 2 is 'p2 yes database'"),
  ("cc_web_video", "Seed.txt", "1\t4\n", r"query 1 is video 4, which Video_List\.txt doesn't have"),
  ("cc_web_video", "Seed.txt", "1\tfour\n", r"Seed\.txt: 'four' should be a number"),
  ("cc_web_video", "GT/GT_2.rst", None, r"no GT_2\.rst, for query 2 of 2"),
  ("cc_web_video", "GT/GT_2.rst", "5\tQ\n", r"GT_2\.rst: label 'Q' is none of"),
  ("cc_web_video", "Video_List.txt", "1 1 YouTube\n",
   r"the line '1 1 YouTube' should have VideoID"),
  ("cc_web_video", "Video_List.txt", None, r"Video_List\.txt: can't read it"),
])
def test_files_of_another_form_are_refused(convert, dataset, name, text, words):
  files = {k: v for k, v in FILES[dataset].items() if k != name}
  with pytest.raises(DataError, match=words):
    convert(dataset, files if text is None else files | {name: text})


@pytest.mark.parametrize("dataset", ["vcdb", "evve"])
def test_a_folder_without_the_files_is_told(tmp_path, dataset):
  with pytest.raises(DataError, match="no files like"):
    annotations.convert(dataset, tmp_path, tmp_path / "out")


def test_published_lists_survive_the_way_through_official_files(data_dir, convert):
  """The published lists, written as their authors write them, come back as they were."""
  folder = data_dir / "annotations" / "retrieval"
  if not folder.is_dir():
    pytest.skip(f"no annotation lists in {folder}")
  evve = lists.read_evve(folder)
  files = {f"annots/{event}.dat": "".join(
    [f"{q} 1 query\n" for q, e in evve.event_of.items() if e == event] +
    [f"{i} 1 database\n" for i in ids]) for event, ids in evve.positives.items()}
  others = set(evve.database) - {i for ids in evve.positives.values() for i in ids}
  files["annots/strokkur+geyser.dat"] += "".join(f"{i} -1 database\n" for i in others)
  found = convert("evve", files)
  assert found.event_of == evve.event_of and found.positives == evve.positives
  assert set(found.database) == set(evve.database) and set(found.queries) == set(evve.queries)
  fivr = lists.read_fivr(folder)
  found = convert("fivr", {"annotation.json": json.dumps(fivr.annotation_official_latest),
                           "youtube_ids.txt": "\n".join(fivr.database_200k)})
  assert found.database_200k == fivr.database_200k
  assert found.annotation_official_latest == fivr.annotation_official_latest


def test_the_command_line(tmp_path):
  write(tmp_path / "in", EVVE)

  def run(*argv):
    return subprocess.run([sys.executable, "-m", "data_pipelines.annotations", *argv], cwd=ROOT,
                          capture_output=True, text=True)

  argv = ("--dataset=evve", f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'out'}")
  done = run(*argv)
  path = tmp_path / "out" / "evve.json.gz"
  assert (done.returncode, done.stdout, done.stderr) == (0, f"{path}\n", "")
  before = path.read_bytes()
  assert run(*argv).returncode == 0 and path.read_bytes() == before  # to the byte
  assert len(json.loads(gzip.decompress(before))["events"]) == 2
  (tmp_path / "in" / "annots" / "dsk+arrested.dat").write_text("what\n")
  done = run(*argv)
  assert done.returncode == 2 and done.stdout == "" and path.read_bytes() == before
  assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
  assert run("--dataset=fifr", "--input=x", "--output=y").returncode == 2
