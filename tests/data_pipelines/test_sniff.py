"""Files that are no videos, and the reasons given."""

import os

import numpy as np
import pytest

from data_pipelines import sniff
from data_pipelines.decode import open_video
from data_pipelines.errors import VideoError
from tests.data_pipelines import clips
from tests.data_pipelines.clips import encode, numbered, zeroed

WHOLE = encode(numbered(10))
UNREADABLE = {
    "empty": (b"", "empty file"),
    "page": (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
    "text": ("Zugriff verweigert: Übung\n".encode(), r"not a video \(text\)"),
    "cut text": (("ü" * 5000).encode()[:4095], r"not a video \(text\)"),
    "playlist": (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://localhost/a.ts\n", "text"),
    "random": (np.random.default_rng(0).bytes(20_000), "not a video"),
    "no moov": (WHOLE[:len(WHOLE) // 2], "no moov"),
    "sound only": (clips.sound_only(), "no video stream"),
    "all zero": (zeroed(WHOLE, range(10)), "no frame could be decoded"),
    "all zero avi": (zeroed(encode(numbered(4), "avi", "png", "rgb24"), range(4)),
                     "no frame could be decoded"),
    "no packets": (WHOLE[:WHOLE.index(b"mdat") + 4], "no moov"),
    "broken head": (encode(numbered(4), "matroska")[:40], "damaged video"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable(tmp_path, name, capfd):
  data, reason = UNREADABLE[name]
  path = tmp_path / "film.mp4"
  path.write_bytes(data)
  for source, called in ((path, str(path)), (data, f"video in memory ({len(data)} bytes)")):
    with pytest.raises(VideoError, match=reason) as caught, open_video(source):
      pass
    assert caught.value.name == called
    assert "\n" not in caught.value.reason and len(caught.value.reason) < 100
  assert capfd.readouterr() == ("", "")


def test_paths_that_are_no_files(tmp_path, monkeypatch):
  os.mkfifo(tmp_path / "pipe.mp4")
  for name, reason in (("missing.mp4", "file not found"), ("", "is a folder"),
                       ("pipe.mp4", "not a regular file")):
    with pytest.raises(VideoError, match=reason), open_video(tmp_path / name):
      pass
  (tmp_path / "secret.mp4").write_bytes(WHOLE)

  def denied(path):
    raise PermissionError(13, "Permission denied")

  monkeypatch.setattr(sniff, "_head", denied)
  with pytest.raises(VideoError, match=r"secret.mp4: permission denied"):
    open_video(tmp_path / "secret.mp4").__enter__()
