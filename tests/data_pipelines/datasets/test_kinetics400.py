"""Kinetics-400: the lists and folders that people have, class numbers, and missing videos."""

import shutil

import pytest

from data_pipelines.datasets import kinetics400, kinetics_lists
from data_pipelines.encode import decode_bytes
from data_pipelines.errors import DataError
from tests.data_pipelines.layouts import kinetics400 as made
from tests.data_pipelines.layouts import material

LISTED = {"train": made.TRAIN, "val": made.VAL, "test": made.TEST}
IDS = {split: sorted(made.name(id_, start) for id_, (_, start) in videos.items())
       for split, videos in LISTED.items()}
LABELS = {made.name(id_, start): label for videos in (made.TRAIN, made.VAL)
          for id_, (label, start) in videos.items()}
THERE = [id_ for id_ in IDS["train"] if id_ != made.MISSING]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  root = tmp_path_factory.mktemp("kinetics400")
  made.write(root)
  return root


@pytest.fixture
def root(written, tmp_path):
  return shutil.copytree(written, tmp_path / "k400")


def read(root, split="train", **options):
  return kinetics400.read(str(root), split, **{**made.OPTIONS, **options})


def ids(data):
  return [record.id for record in data.records]


def labels(data):
  return {record.id: record.label for record in data.records}


def test_lists_and_folders(written):
  for split in LISTED:
    data = read(written, split)
    assert ids(data) == [i for i in IDS[split] if i != made.MISSING]
    assert data.classes == made.CLASSES
    assert all(record.splits == (split,) and record.start is None for record in data.records)
  assert read(written, "val").missing == ()
  assert all(record.label == -1 and record.text == "" for record in data.records)  # of test


def test_labels_are_the_lists(written):
  for split in ("train", "val"):
    for record in read(written, split).records:
      assert record.label == LABELS[record.id]
      assert record.text == made.CLASSES[record.label]


def test_the_videos_are_those_of_the_names(written):
  for record in read(written).records:
    with open(record.video, "rb") as f:
      frames = decode_bytes(f.read())
    seed = [made.name(i, s) for i, (_, s) in made.TRAIN.items()].index(record.id)
    assert abs(frames.astype(int) - material.clip(seed)).mean() < 12


def test_all_has_every_video_once(written):
  data = read(written, "all")
  assert ids(data) == sorted(i for own in IDS.values() for i in own if i != made.MISSING)
  assert {r.id: r.splits for r in data.records} == {
    i: (split,) for split, own in IDS.items() for i in own if i != made.MISSING}


def test_missing_videos_are_counted_against_the_list(root, written):
  with pytest.raises(DataError, match=r"kinetics400 train: 5 videos expected, 4 found; 400 classes "
                     rf"expected, 3 found; 1 listed video is missing \(first: {made.MISSING}\)"):
    read(written, allow_missing=False)
  assert read(written).missing == (made.MISSING,)
  shutil.rmtree(root / "train" / made.CLASSES[0].replace(" ", "_"))
  data = read(root)
  assert len(data.missing) == 2
  assert labels(data) == {i: LABELS[i] for i in ids(data)}  # the numbers don't move


def test_names_of_lists(root):
  (root / "annotations").mkdir()
  (root / "train.csv").rename(root / "annotations/kinetics_train.csv")
  assert ids(read(root)) == THERE
  (root / "annotations/kinetics400_train_list.txt").write_text("a.mp4 0\n")
  assert ids(read(root)) == THERE  # csv comes before txt
  shutil.copy(root / "annotations/kinetics_train.csv", root / "annotations/train-400.csv")
  with pytest.raises(DataError, match=r"annotations/kinetics_train\.csv and annotations/train-400"
                     r"\.csv in .* may both be the list of train; say with lists=FILE"):
    read(root)
  assert ids(read(root, lists=str(root / "annotations/train-400.csv"))) == THERE
  (root / "annotations").rename(root.parent / "lists")
  (root.parent / "lists/train-400.csv").unlink()
  assert ids(read(root, lists=str(root.parent / "lists"))) == THERE
  with pytest.raises(DataError, match=r"is one list; name its split"):
    read(root, "all", lists=str(root / "validate.csv"))
  with pytest.raises(DataError, match=r"no lists like train\.csv or val\.csv in lists="):
    read(root, lists=str(root / "test"))


def test_one_list_for_all_splits_is_filtered(root):
  every = (root / "train.csv").read_text().splitlines()
  every += (root / "validate.csv").read_text().splitlines()[1:]
  (root.parent / "kinetics.csv").write_text("\n".join(every))
  assert ids(read(root, "val", lists=str(root.parent / "kinetics.csv"))) == IDS["val"]


@pytest.mark.parametrize("whole", [False, True])
def test_flat_and_bare_names(root, whole):
  for path in [p for p in root.rglob("*") if p.suffix in (".mp4", ".mkv")]:
    bare = path.stem.rsplit("_", 2)[0] + path.suffix
    path.rename(root / bare)
  data = read(root, whole_videos=whole)
  assert ids(data) == THERE
  for record in data.records:
    start = float(record.id[12:18]) if whole else None
    assert (record.start, record.end) == (start, start + 10 if whole else None)
    assert record.label == LABELS[record.id]


def test_seconds_apply_to_bare_names_only(written):
  assert all(record.start is None for record in read(written, whole_videos=True).records)


def test_several_files_of_one_name(root):
  folder = made.CLASSES[0].replace(" ", "_")
  name = f"{made.name('-3B32lodo2M', 59)}.mp4"
  for place in ("compress/train_256", "val", "replaced"):
    (root / place / folder).mkdir(parents=True)
    shutil.copy(root / "train" / folder / name, root / place / folder / name)
  record = next(r for r in read(root).records if name.startswith(r.id))
  assert record.video == str(root / "train" / folder / name)
  assert read(root).note.startswith("found more than once: 1 (first: -3B32lodo2M")
  (root / "train" / folder / name).unlink()
  record = next(r for r in read(root).records if name.startswith(r.id))
  assert record.video == str(root / "compress/train_256" / folder / name)


def test_folders_alone(root):
  for path in root.glob("*.csv"):
    path.unlink()
  data = read(root)
  assert ids(data) == THERE and data.missing == ()
  assert labels(data) == {i: LABELS[i] for i in THERE}
  assert data.classes == made.CLASSES
  # Two of three classes are in val_256, but numbers are those of all splits.
  assert labels(read(root, "val")) == {i: LABELS[i] for i in IDS["val"]}
  assert labels(read(root, "test")) == dict.fromkeys(IDS["test"], -1)
  assert read(root, "all").records[0].splits == ("train",)
  assert ids(read(root / "train")) == THERE  # the split's folder itself
  assert read(root / "train", "all").records[0].splits == ("train",)
  shutil.rmtree(root / "val_256")
  with pytest.raises(DataError, match=r"neither a list like val\.csv nor a folder like val/ in .*; "
                     r"give the folder that holds train\.csv"):
    read(root, "val")


def test_class_folders_without_splits(root):
  (root / "train").rename(root.parent / "mini")
  data = read(root.parent / "mini", "all")
  assert ids(data) == THERE and labels(data) == {i: LABELS[i] for i in THERE}
  assert data.records[0].splits == ()
  with pytest.raises(DataError, match=r"or read the split 'all'"):
    read(root.parent / "mini")


def test_lists_of_paths_and_numbers(root):
  for path in root.glob("*.csv"):
    path.unlink()
  rows = [f"/home/me/k400/{made.CLASSES[label].replace(' ', '_')}/{made.name(i, s)}.mp4 {label}"
          for i, (label, s) in made.TRAIN.items()]
  (root / "train.csv").write_text("\n".join(rows))
  data = read(root)
  assert ids(data) == THERE and data.missing == (made.MISSING,)
  assert labels(data) == {i: LABELS[i] for i in THERE}
  assert data.classes == made.CLASSES and data.records[0].text == made.CLASSES[0]
  assert labels(read(root, "val")) == {i: LABELS[i] for i in IDS["val"]}  # by its folders
  # Numbers of another list that don't fit folders, with commas and spaces in the paths.
  rows = [f"my videos/{made.name(i, s)}.mp4, {label + 5}" for i, (label, s) in made.TRAIN.items()]
  (root / "train.csv").write_text("\n".join(rows))
  data = read(root)
  assert labels(data) == {i: LABELS[i] + 5 for i in THERE}
  assert data.classes == () and data.records[0].text == ""
  with pytest.raises(DataError, match=r"some lists have class numbers, others .*classes=FILE"):
    read(root, "all")
  outside = root.parent / "other.mp4"
  material.video(outside, seed=0)
  (root / "train.csv").write_text(f"{outside} 3\n")
  assert [record.video for record in read(root).records] == [str(outside)]


def test_class_names_from_a_file(root, tmp_path):
  names = tmp_path / "names.txt"
  names.write_text("\n".join(["abseiling", *reversed(made.CLASSES)]))
  data = read(root, classes=str(names))
  assert labels(data) == {i: 3 - LABELS[i] for i in THERE}
  assert len(data.classes) == 4
  names.write_text("abseiling\n" + made.CLASSES[0])
  with pytest.raises(DataError, match=r"is of class '.*', which is not among the 2 class names"):
    read(root, classes=str(names))


@pytest.mark.parametrize("text, message", [
  ("label,youtube_id,start\na,b,c\n", r"begins with 'label,youtube_id,start'; .*a header with "
   r"youtube_id, time_start, time_end"),
  ("youtube_id,time_start,time_end\nabcdefghijk,1\n", r"line 2 has 2 values for 3 columns"),
  ("youtube_id,time_start,time_end\nabcdefghijk,1,x\n", r"line 2: time_start and time_end .*'x'"),
  ("a.mp4 1\nb.mp4\n", r"line 2 should be a path and a class's number, is 'b\.mp4'"),
  ("", r"is empty; it should be a list of Kinetics videos"),
])
def test_bad_lists(root, text, message):
  (root / "train.csv").write_text(text)
  with pytest.raises(DataError, match=rf"train\.csv.*{message}"):
    read(root)


def test_wrong_folders(tmp_path):
  with pytest.raises(DataError, match=r"no split 'vall'; did you mean 'val'"):
    read(tmp_path, "vall")
  with pytest.raises(DataError, match=r"kinetics400: no videos in .*, which holds nothing; give"):
    read(tmp_path)


@pytest.mark.parametrize("name, split", [
  ("train", "train"), ("val_256", "val"), ("videos_val", "val"), ("Validation", "val"),
  ("k400-test", "test"), ("training dog", ""), ("trainval", ""), ("train_val", ""), ("", ""),
])
def test_split_in_a_name(name, split):
  assert kinetics_lists.split_of(name) == split


def test_official_class_names_survive_folders(data_dir):
  """No two classes become one, and none is taken for a split, by what folders do to names."""
  path = data_dir / "annotations/cycle_contrast/labels/kinetics_400_class_names.txt"
  if not path.is_file():
    pytest.skip(f"no {path}")
  names = path.read_text().splitlines()
  assert len({kinetics400._plain(name) for name in names}) == 400
  folders = [name.replace(" ", "_") for name in names]
  assert [kinetics400.class_folder(f"x/{folder}/a.mp4") for folder in folders] == names
  assert sorted(names, key=str.lower) == names  # the order that everybody numbers them in
