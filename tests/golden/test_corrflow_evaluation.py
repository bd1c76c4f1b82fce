"""Evaluation against the authors' own: DAVIS's J and F, CRW's and MAST's propagation, PCK."""

import dataclasses
import itertools

import numpy as np
import pytest
from PIL import Image

from vssl_jax.evaluators import dense, propagation, segmentation
from vssl_jax.metrics import keypoints as pck
from vssl_jax.metrics import segmentation as metrics
from vssl_jax.ops import displaced, keypoints, resample
from vssl_jax.ops import propagation as ops


def cases(golden_dir, pattern):
  """Arrays of every file `pattern`."""
  paths = sorted((golden_dir / "corrflow").glob(pattern))
  if not paths:
    pytest.skip(f"no {pattern} in {golden_dir / 'corrflow'}")
  return [dict(np.load(p, allow_pickle=False)) for p in paths]


def last(x):
  """[..., C, H, W] -> [..., H, W, C]."""
  return np.moveaxis(x, -3, -1)


def groups(case, pattern):
  """First parts of the keys `PART/pattern`."""
  return sorted({k.rsplit("/", 1)[0] for k in case if k.endswith("/" + pattern)})


def test_single_masks(golden_dir):
  for case in cases(golden_dir, "davis_jf_*.npz"):
    width = int(case["shape"][1])

    def unpack(x, width=width):
      return np.unpackbits(x, axis=-1)[..., :width].astype(bool)

    truth, predicted, void = (unpack(case[k]) for k in ("gt", "pred", "void"))
    assert void.shape == tuple(case["shape"])
    assert metrics.tolerance(*case["shape"]) == case["bound_pix"]
    np.testing.assert_array_equal([metrics.boundary(p) for p in predicted],
                                  unpack(case["boundary_pred"]))
    for f, key in ((metrics.region, "J"), (metrics.contour, "F")):
      pairs = list(zip(truth, predicted, strict=True))
      np.testing.assert_allclose([f(*p) for p in pairs], case[key], atol=1e-6)
      np.testing.assert_allclose([f(*p, void) for p in pairs], case[f"{key}_void"], atol=1e-6)


def test_statistics(golden_dir):
  for case in cases(golden_dir, "davis_statistics*.npz"):
    names = [k[1:] for k in case if k.startswith("v")]
    assert names
    for n in names:
      np.testing.assert_allclose(metrics.statistics(case[f"v{n}"]), case[f"mrd{n}"], atol=1e-6)


def test_whole_evaluation(golden_dir):
  for case in cases(golden_dir, "davis_full_eval*.npz"):
    found = {name: metrics.sequence(name, case[f"{name}/gt"], case[f"{name}/pred"])
             for name in groups(case, "gt")}
    for name, s in found.items():
      np.testing.assert_allclose(s.j, case[f"{name}/J_per_frame"], atol=1e-6)
      np.testing.assert_allclose(s.f, case[f"{name}/F_per_frame"], atol=1e-6)
    table = segmentation.Report(found).table
    for i, name in enumerate(case["object_names"]):
      for kind in "JF":
        np.testing.assert_allclose(table[name][kind], [case[f"{kind}_{x}"][i] for x in "MRD"],
                                   atol=1e-6)
    numbers = metrics.total(found)
    np.testing.assert_allclose([numbers[k] for k in case["global_names"]], case["global"],
                               atol=1e-6)


@dataclasses.dataclass(frozen=True)
class Sequence:
  id: str


def davis(data_dir):
  root = data_dir / "davis" / "davis2016_480p"
  if not root.is_dir():
    pytest.skip(f"no {root}")
  return root


def reader(root):
  """Frames and grey masks of a sequence, one at a time."""
  def read(record):
    for path in sorted((root / "JPEGImages" / record.id).glob("*.jpg")):
      mask = root / "Annotations" / record.id / f"{path.stem}.png"
      yield (np.asarray(Image.open(path).convert("RGB")),
             np.where(np.asarray(Image.open(mask)) > 127, 255, 0).astype(np.uint8))
  return read


def test_real_masks(golden_dir, data_dir):
  root = davis(data_dir)
  for case in cases(golden_dir, "davis_real_jf*.npz"):
    for name, kind in (key.rsplit("/", 1) for key in groups(case, "J")):
      annotations = sorted((root / "Annotations" / name).glob("*.png"))
      truth = [(np.asarray(Image.open(p)) > 127).astype(np.uint8) for p in annotations]
      predicted = itertools.repeat(truth[0], len(truth))
      if kind != "identity":
        results = root.parent / f"{kind}_davis2017_results" / name
        predicted = ((np.asarray(Image.open(results / p.name)) > 0).astype(np.uint8)
                     for p in annotations)
      got = metrics.sequence(name, truth, predicted)
      for values, key in ((got.j[0], "J"), (got.f[0], "F")):
        np.testing.assert_allclose(values, case[f"{name}/{kind}/{key}"], atol=1e-6)
        np.testing.assert_allclose(metrics.statistics(values), case[f"{name}/{kind}/{key}_mrd"],
                                   atol=1e-6)


def test_identity_of_real_sequences(golden_dir, data_dir):
  root = davis(data_dir)
  for case in cases(golden_dir, "davis_real_jf*.npz"):
    names = [key.rsplit("/", 1)[0] for key in groups(case, "J") if key.endswith("identity")][:1]
    evaluator = segmentation.make([Sequence(n) for n in names], reader(root), merge=True)
    for name, got in evaluator.identity().sequences.items():
      np.testing.assert_allclose(got.j[0], case[f"{name}/identity/J"], atol=1e-6)
      np.testing.assert_allclose(got.f[0], case[f"{name}/identity/F"], atol=1e-6)


@pytest.mark.slow
def test_floor_on_real_sequences(data_dir):
  """Colours alone: J and F over 25 frames, `least` those of an earlier program of the same kind."""
  root = davis(data_dir)
  known = {"blackswan": ((0.921, 0.950), (0.921, 0.935)), "libby": ((0.682, 0.774), (0.623, 0.638)),
           "motocross-jump": ((0.460, 0.355), (0.298, 0.268))}
  names = [n for n in known if (root / "JPEGImages" / n).is_dir()]
  assert names, f"none of {', '.join(known)} in {root}"
  evaluator = segmentation.make([Sequence(n) for n in names], reader(root), merge=True, frames=25,
                                changes=dict(recent=(1, 2, 3, 4), fixed_radius=12))
  for name, got in evaluator.report(dense.lab_blocks()).sequences.items():
    ours, least = known[name]
    np.testing.assert_allclose((got.j.mean(), got.f.mean()), ours, atol=0.01)
    assert (np.array([got.j.mean(), got.f.mean()]) > np.array(least) - 0.01).all()


def test_crw(golden_dir):
  for case in cases(golden_dir, "propagate_crw*.npz"):
    n = int(case["n_context"])
    features = np.moveaxis(case["features_raw"][0], 0, -1)[n:]
    protocol = propagation.protocol(
        "crw", recent=range(1, n + 1), radius=float(case["radius"]), top_k=int(case["topk"]),
        temperature=float(case["temperature"]))
    got = list(propagation.propagate_cells(iter(features), case["first_label"], protocol))
    np.testing.assert_allclose(got, case["pred"], rtol=0, atol=1e-5)


def test_crw_references(golden_dir):
  for case in cases(golden_dir, "propagate_crw*.npz"):
    n = int(case["n_context"])
    protocol = propagation.protocol("crw", recent=range(1, n + 1))
    for t in range(1, len(case["key_indices"])):
      frames, valid = ops.references(protocol, t)
      assert valid.all()
      assert frames == np.maximum(case["key_indices"][t] - n, 0).tolist()


def test_mast(golden_dir):
  for case in cases(golden_dir, "mast_colorizer*.npz"):
    labels = resample.labels_to_cells(case["labels"], int(case["n_classes"]), rule="slice")
    q, k = last(case["feat_t"])[0], last(case["feat_r"])
    protocol = propagation.protocol("mast", fixed=(0,), recent=range(1, len(k)),
                                    radius=int(case["radius"]))
    for age, key, tolerance in ((len(k), "out_short_refs", 1e-5), (18, "out_one_long_ref", 1e-3)):
      ages = np.array([age, *range(len(k) - 1, 0, -1)])
      got = ops.step(q, tuple(k), tuple(labels), np.ones(len(k), bool), ages, protocol)
      np.testing.assert_allclose(got, last(case[key])[0], rtol=0, atol=tolerance)


def test_mast_search(golden_dir):
  for case in cases(golden_dir, "mast_colorizer*.npz"):
    q, k = last(case["feat_t"])[0], last(case["feat_r"])[0]
    got = displaced.expected_offset(q, k, 12, 2, 4)[..., ::-1]
    np.testing.assert_allclose(got, case["long_ref_offset_xy"][0], rtol=0, atol=1e-3)


def test_keypoint_maps(golden_dir):
  for case in cases(golden_dir, "keypoint_maps*.npz"):
    size = case["heatmaps"].shape[:2]
    got = keypoints.draw(case["keypoints"].T, size, float(case["sigma"]))
    np.testing.assert_allclose(got, case["with_background"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(got[..., 1:], case["heatmaps"], rtol=0, atol=1e-6)
    got = keypoints.decode(case["noisy"][..., 1:])
    np.testing.assert_allclose(got, case["decoded_top3"].T, rtol=0, atol=5e-6)


def test_pck(golden_dir):
  for case in cases(golden_dir, "pck*.npz"):
    videos, names = [], groups(case, "pred_grid")
    assert names
    for name in names:
      truth = case[f"{name}/pos_img_1based"].transpose(2, 1, 0) - 1
      grid = case[f"{name}/pred_grid"].transpose(2, 1, 0)
      height, width = case[f"{name}/height_width"]
      predicted = np.where(grid < 0, -1, grid / 40 * [width, height])
      videos.append(pck.distances(truth, predicted))
      np.testing.assert_allclose(pck.body_sizes(truth, predicted[..., 0] >= 0),
                                 case[f"{name}/body_size"], rtol=1e-9)
    found = np.concatenate([v.found for v in videos])
    distance = np.concatenate([v.distance for v in videos])
    for j in range(found.shape[1]):
      np.testing.assert_allclose(np.sort(distance[found[:, j], j]), np.sort(case[f"dist/{j}"]),
                                 rtol=1e-9)
    got = pck.pck(videos, case["thresholds"])
    np.testing.assert_allclose(got, case["pck_per_joint"], rtol=1e-9)
    np.testing.assert_allclose(got.mean(1), case["pck_mean_over_joints"], rtol=1e-9)
