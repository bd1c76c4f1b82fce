"""What a run depends on, by content."""

import dataclasses

from data_pipelines.records import Record
from experiments import origin


def test_a_video_is_known_by_file_part_and_edit(tmp_path):
  path = tmp_path / "v.mp4"
  path.write_bytes(b"12")
  video = Record("v", str(path))
  digests = {origin.video_digest(v) for v in (
      video, dataclasses.replace(video, start=1.0), dataclasses.replace(video, end=2.0),
      dataclasses.replace(video, edit_seed=0),
      dataclasses.replace(video, edit_seed=0, edit_strength="strong"))}
  assert len(digests) == 5
  other = dataclasses.replace(video, id="other name", label=3)
  assert origin.video_digest(other) == origin.video_digest(video)
  path.write_bytes(b"123")
  assert origin.video_digest(video) not in digests


def test_pictures_are_known_by_number_and_rate_and_the_first_and_last(tmp_path):
  paths = [tmp_path / f"{i}.png" for i in range(3)]
  for i, path in enumerate(paths):
    path.write_bytes(bytes(i))
  names = tuple(map(str, paths))
  found = {origin.video_digest(Record("v", frames=f)) for f in (
      names, names[:2], names[:1], names[1:], (b"a", b"b"), (b"a", b"c"), (b"a",))}
  found.add(origin.video_digest(Record("v", frames=names, fps=30.0)))
  assert len(found) == 8
  paths[-1].write_bytes(b"other")
  assert origin.video_digest(Record("v", frames=names)) not in found
