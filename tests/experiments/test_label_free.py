"""The label-free preset with every option, from rendered videos to exported weights."""

import json

import pytest

from tests.experiments import harness

PRESET = "experiments/tca.py:label_free"


@pytest.mark.slow
def test_a_run_without_labels_gives_frame_weights(cache, server, tmp_path):
  run = tmp_path / "run"
  result = server.run(*harness.train(
      run, cache, PRESET, train__steps=3, train__eval_every=0,
      **{f"method__args__{k}": v for k, v in dict(
          self_similarity=1.0, level="both").items()}))
  assert result.status == 0, result.err
  text = " ".join(result.out.split())
  assert "33 training pairs" in text and "Training saw no labels" in text  # 3 of each of 11 videos
  assert "the same mAP, scores equal to within" in text
  last = harness.metrics(run)[-1]
  assert {"frame_top1", "self", "frame_self"} <= last.keys()
  outputs = json.loads((run / "export" / "embed.json").read_text())["outputs"]
  assert outputs.keys() == {"video", "frames", "length", "attention", "weights"}
