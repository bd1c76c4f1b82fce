"""CycleContrast's tracking evaluation against the released one and the GOT-10k toolkit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.golden import rules
from vssl_jax.convert import resnet as convert
from vssl_jax.evaluators import tracker
from vssl_jax.evaluators.matchers import Siamese
from vssl_jax.losses import tracking as losses
from vssl_jax.methods import siamfc as method
from vssl_jax.metrics import tracking as metrics
from vssl_jax.models import siamfc
from vssl_jax.ops import crops
from vssl_jax.ops.correlation import cross_correlate


@pytest.fixture(scope="module")
def folder(golden_dir):
  if not (golden_dir / "cycle_contrast").is_dir():
    pytest.skip(f"no folder cycle_contrast in {golden_dir}")
  return golden_dir / "cycle_contrast"


@pytest.fixture(scope="module")
def models(folder):
  """Seeds and names of the weights."""
  return rules.load_cases(folder)


def cases(folder, name):
  """Golden arrays of every file `NAME*.npz`."""
  paths = sorted(folder.glob(f"{name}*.npz"))
  if not paths:
    pytest.skip(f"no {name}*.npz in {folder}")
  return [np.load(path) for path in paths]


def error(ours, golden):
  """Relative L2 distance."""
  ours, golden = np.asarray(ours, np.float64), np.asarray(golden, np.float64)
  assert ours.shape == golden.shape
  return np.linalg.norm(ours - golden) / np.linalg.norm(golden)


def nhwc(x):
  return x.transpose(0, 2, 3, 1)


def exact(ours, golden, key=""):
  np.testing.assert_allclose(ours, golden, rtol=0, atol=1e-12, err_msg=key)


def test_otb(folder):
  for case in cases(folder, "otb"):
    tracks = []
    for i in range(int(case["n"])):
      truth, predicted = case[f"anno{i}"], case[f"pred{i}"]
      tracks.append(metrics.otb(truth, predicted))
      begun = np.concatenate([truth[:1], predicted[1:]])
      exact(metrics.overlaps(begun, truth), case[f"iou{i}"])
      exact(metrics.distances(truth, begun), case[f"center_error{i}"])
      exact(metrics.distances(truth, begun, relative=True), case[f"norm_center_error{i}"])
    for suffix, got in [*enumerate(tracks), ("", metrics.otb_total(tracks))]:
      exact(got.success, case[f"success_curve{suffix}"])
      exact(got.precision, case[f"precision_curve{suffix}"])
      for score in ("success_score", "precision_score", "success_rate"):
        exact(getattr(got, score), case[f"{score}{suffix}"], score)


def test_got10k(folder):
  for case in cases(folder, "got10k"):
    found = []
    for i in range(int(case["n"])):
      runs = np.stack([case[f"pred{i}_{r}"] for r in range(int(case["repetitions"]))])
      found.append(metrics.got10k(case[f"anno{i}"], runs, tuple(case["resolution"]),
                                  case[f"cover{i}"]))
      exact(found[-1].ao, case[f"ao{i}"])
      exact(found[-1].sr50, case[f"sr50_{i}"])
    total = metrics.got10k_total(found)
    for got, key in ((total.ao, "ao"), (total.sr50, "sr50"), (total.sr75, "sr75"),
                     (total.curve, "succ_curve")):
      exact(got, case[key], key)


def assert_levels(ours, golden):
  """Equal but for a few values that are a level off."""
  off = np.abs(ours.astype(int) - golden)
  assert off.max() <= 1 and (off > 0).mean() < 0.01


def test_crop(folder):
  for case in cases(folder, "siamfc_crop"):
    for centre, side, golden in zip(case["center_yx"], case["size"], case["crops"], strict=True):
      ours = crops.squares(case["image"], centre, [side], int(case["out_size"]))[0]
      assert_levels(ours, golden)


def test_labels(folder):
  for case in cases(folder, "siamfc_loss"):
    checked = 0
    for key in [k for k in case.files if k.startswith("labels_")]:
      *band, size = key.removeprefix("labels_").split("_")
      radii = [float(r.removeprefix("r")) for r in band] or [16.0, 0.0]
      draw = functools.partial(losses.label_map, tuple(int(n) for n in size.split("x")),
                               positive=radii[0], negative=radii[1])
      ours = jax.jit(draw)()
      np.testing.assert_array_equal(ours, case[key], err_msg=key)
      checked += 1
    assert checked


LOSSES = {"balanced": losses.balanced, "focal": losses.focal}
LOSS_ARGS = {"neg": "negatives", "gamma": "gamma"}


def test_losses_and_gradients(folder):
  for case in cases(folder, "siamfc_loss"):
    response, labels = case["resp"][:, 0], case["label"][:, 0]
    checked = 0
    for key in [k for k in case.files if k.startswith("loss_")]:
      name, _, change = key.removeprefix("loss_").partition("_")
      word = change.rstrip("0123456789.")
      args = {LOSS_ARGS[word]: float(change.removeprefix(word))} if change else {}
      with jax.enable_x64(True):
        loss = functools.partial(LOSSES[name], labels=labels, **args)
        value, grad = jax.jit(jax.value_and_grad(lambda r, loss=loss: loss(r).mean()))(
          response.astype(np.float64))
      assert error(value, case[key]) < 2e-6, key
      assert error(grad, case[key.replace("loss_", "g_")][:, 0]) < 2e-6, key
      checked += 1
    assert checked


def test_correlation(folder):
  for case in cases(folder, "siamfc_xcorr"):
    z, x = nhwc(case["z"]), nhwc(case["x"])

    def respond(z, x, scale=float(case["out_scale"])):
      return scale * cross_correlate(z, x)

    response, pull = jax.vjp(respond, z, x)
    gz, gx = pull(jnp.asarray(case["cot"][:, 0]))
    one = respond(z[:1], nhwc(case["x_scales"]))
    for ours, key in ((response[:, None], "resp"), (one[:, None], "resp_one_exemplar"),
                      (gz.transpose(0, 3, 1, 2), "gz"), (gx.transpose(0, 3, 1, 2), "gx")):
      assert error(ours, case[key]) < 1e-5, key


def head_params(state):
  """Two 1x1 convolutions in torch's layout to the head's parameters."""
  names = {"exemplar": "z_convs.0", "search": "x_convs.0"}
  return {ours: {"linear": {"kernel": jnp.asarray(state[f"{name}.weight"][:, :, 0, 0].T),
                            "bias": jnp.asarray(state[f"{name}.bias"])}}
          for ours, name in names.items()}


def test_correlation_of_projections(folder, models):
  params = head_params(rules.make_params(models["siamfc_convhead"]))
  for case in cases(folder, "siamfc_xcorr"):
    head = siamfc.SiamFCHead(params["search"]["linear"]["bias"].size, float(case["conv_out_scale"]))

    def respond(z, x, head=head):
      return head.apply({"params": params}, z, x)

    z, x = nhwc(case["z"]), nhwc(case["x"])
    response, pull = jax.vjp(respond, z, x)
    gz, gx = pull(jnp.asarray(case["cot"][:, 0]))
    one = respond(z[:1], nhwc(case["x_scales"]))
    for ours, key in ((response[:, None], "resp"), (one[:, None], "resp_one_exemplar"),
                      (gz.transpose(0, 3, 1, 2), "gz"), (gx.transpose(0, 3, 1, 2), "gx")):
      assert error(ours, case[f"conv_{key}"]) < 1e-5, key


def test_dilated_trunk(folder, models):
  checked = 0
  for case in cases(folder, "siamfc_dilated_resnet"):
    for prefix in sorted({key.partition(".")[0] for key in case.files}):
      depth, size = (int(n) for n in prefix.removeprefix("r").split("_"))
      model = models[f"dilated_resnet{depth}"]
      net = siamfc.trunk(f"resnet{depth}")
      x = rules.draw((model["seed"], 10_000_000 + size), (1, 3, size, size)).astype(np.float32)
      np.testing.assert_allclose(x[0, :, :3, :3], case[f"{prefix}.x_corner"], rtol=1e-6)
      out = jax.jit(net.apply)(convert.from_torch(rules.make_params(model)), nhwc(x))
      maps = [np.asarray(out[f"stage{i}"]).transpose(0, 3, 1, 2) for i in (1, 2, 3, 4)]
      np.testing.assert_array_equal([m.shape for m in maps], case[f"{prefix}.shape"])
      for i, m in enumerate(maps, start=1):
        assert error(m.mean((0, 2, 3)), case[f"{prefix}.stage{i}_mean"]) < 1e-5, (prefix, i)
      last = maps[-1][0, ::8]
      corner, edge = case[f"{prefix}.corner"].shape[-1], case[f"{prefix}.edge"].shape[-1]
      middle = [n // 2 for n in last.shape[1:]]
      assert error(last[:, :corner, :corner], case[f"{prefix}.corner"]) < 1e-5
      assert error(last[:, middle[0], middle[1]], case[f"{prefix}.centre"]) < 1e-5
      assert error(last[:, -edge:, -edge:], case[f"{prefix}.edge"]) < 1e-5
      checked += 1
  assert checked


def first_state(case):
  return tracker.start(case["gt"][0] - (1, 1, 0, 0), tracker.PROTOCOLS["released"])


def as_row(state):
  return np.concatenate([state.centre, state.size, [state.exemplar, state.search]])


def test_decoding_of_responses(folder):
  protocol = tracker.PROTOCOLS["released"]
  for case in cases(folder, "siamfc_tracker"):
    np.testing.assert_allclose(protocol.factors, case["scale_factors"], rtol=1e-12)
    state = first_state(case)
    np.testing.assert_allclose(as_row(state), case["state"][0], rtol=1e-6)
    for responses, row, box in zip(case["resp"], case["state"][1:], case["boxes"][1:], strict=True):
      state = tracker.move(state, responses, protocol)
      np.testing.assert_allclose(as_row(state), row, rtol=1e-5)
      np.testing.assert_allclose(state.box + (1, 1, 0, 0), box, rtol=1e-5)


def test_upsampling_and_window(folder):
  protocol = tracker.PROTOCOLS["released"]
  for case in cases(folder, "siamfc_tracker"):
    response = case["resp"][0, 1].astype(np.float64)
    size = protocol.up * protocol.cells
    weights = tracker.cubic(len(response), size)
    up = weights @ response @ weights.T
    corner = case["up_corner"].shape[0]
    for ours, key in ((up[136], "up_row136"), (up[:, 100], "up_col100"), (up.max(), "up_max"),
                      (up[:corner, :corner], "up_corner")):
      np.testing.assert_allclose(ours, case[key], rtol=1e-5, atol=1e-5, err_msg=key)
    np.testing.assert_array_equal(np.unravel_index(up.argmax(), up.shape), case["up_argmax"])
    np.testing.assert_allclose(tracker.hanning(size, size)[136], case["hann_row136"], atol=1e-15)


def test_crops_of_the_tracker(folder):
  protocol = tracker.PROTOCOLS["released"]
  for case in cases(folder, "siamfc_tracker"):
    state = first_state(case)
    exemplar = crops.squares(case["frames"][0], state.centre, [state.exemplar], protocol.exemplar)
    assert_levels(exemplar[0], case["z_crop"])
    searched = crops.squares(case["frames"][1], state.centre, state.search * protocol.factors,
                             protocol.search)[:, ::5, ::5]
    assert_levels(searched, case["x_crop_f1"])


def test_whole_tracker(folder, models):
  net = siamfc.trunk("resnet18")
  variables = convert.from_torch(rules.make_params(models["tracker_backbone_resnet18"]))
  params = head_params(rules.make_params(models["tracker_head"]))
  channels, scale = siamfc.HEADS["resnet18"]
  head = method.make(channels=channels, scale=scale)

  @jax.jit
  def embed(inputs):
    return head.embed(params, {}, {"features": siamfc.features(net, variables, inputs["image"])})

  protocol = tracker.PROTOCOLS["released"]
  for case in cases(folder, "siamfc_tracker"):
    frames = case["frames"]
    tracked = tracker.Tracker(Siamese(embed), protocol, frames[0], case["gt"][0] - (1, 1, 0, 0))
    for frame, golden, row in zip(frames[1:], case["resp"], case["state"][1:], strict=True):
      assert error(tracked.responses(frame), golden) < 1e-3
      tracked(frame)
      np.testing.assert_allclose(as_row(tracked.state), row, atol=0.1)
