"""Window attention and resampling against the authors' own: CorrFlow, MAST, CRW."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.ops import normalise, resample, window_attention

attend = jax.jit(window_attention.attend, static_argnames=(
  "radius", "shape", "border", "temperature", "top_k"))
TIGHT = dict(rtol=0, atol=1e-5)


def cases(golden_dir, pattern, *keys):
  """Arrays of every file `pattern` that holds all keys."""
  paths = sorted((golden_dir / "corrflow").glob(pattern))
  if not paths:
    pytest.skip(f"no {pattern} in {golden_dir / 'corrflow'}")
  found = [dict(np.load(p, allow_pickle=False)) for p in paths]
  found = [f for f in found if all(k in f for k in keys)]
  assert found, f"no {pattern} with {keys}"
  return found


def last(x):
  """[..., C, H, W] -> [..., H, W, C]."""
  return np.moveaxis(x, -3, -1)


def test_correlation_volume(golden_dir):
  for case in cases(golden_dir, "corr_volume_*.npz"):
    q, k = last(case["feat_t"]), last(case["feat_r"])
    radius, (b, h, w, _) = int(case["radius"]), q.shape

    def flat(x, shape=(b, h, w)):  # [..., i, j, H, W] -> [..., H, W, i j]
      return np.moveaxis(x.reshape(*x.shape[:-4], -1, *shape[1:]), -3, -1)

    f = functools.partial(window_attention.correlation, radius=radius)
    got, pull = jax.vjp(jax.jit(f), q, k)
    scale = np.abs(case["volume"]).max()
    np.testing.assert_allclose(got, flat(case["volume"]), rtol=0, atol=1e-5 * scale)
    np.testing.assert_array_equal(window_attention.border_mask(h, w, radius), flat(case["valid"]))
    for g, name in zip(pull(flat(case["cotangent"])), ("grad_feat_t", "grad_feat_r"), strict=True):
      want = last(case[name])
      np.testing.assert_allclose(g, want, rtol=0, atol=1e-5 * np.abs(want).max())


def radius_of(case):
  return (round(case["attn"].shape[1] ** 0.5) - 1) // 2


def test_copies(golden_dir):
  for case in cases(golden_dir, "colorizer_*.npz", "attn"):
    q, k = last(case["feat_t"]), last(case["feat_r"])
    classes = case["out_label"].shape[1]
    for values, want in [(np.eye(classes, dtype=np.float32)[case["prep_label"]], "out_label"),
                         (last(case["prep_soft"]), "out_soft")]:
      got = attend(q, k, values, radius=radius_of(case))
      np.testing.assert_allclose(got, last(case[want]), **TIGHT)


def test_weights(golden_dir):
  for case in cases(golden_dir, "colorizer_*.npz", "attn"):
    q, k = last(case["feat_t"]), last(case["feat_r"])
    volume = window_attention.correlation(q, k, radius_of(case))
    inside = window_attention.border_mask(*q.shape[1:3], radius_of(case))
    got = jax.nn.softmax(jnp.where(inside, volume, -jnp.inf), axis=-1)
    np.testing.assert_allclose(got, last(case["attn"]), **TIGHT)


def test_gradients_of_the_copy(golden_dir):
  for case in cases(golden_dir, "colorizer_*.npz", "cotangent_out_soft"):
    values, ct, radius = last(case["prep_soft"]), last(case["cotangent_out_soft"]), radius_of(case)

    def f(q, k, values=values, ct=ct, radius=radius):
      return (attend(q, k, values, radius=radius) * ct).sum()

    got = jax.grad(f, argnums=(0, 1))(last(case["feat_t"]), last(case["feat_r"]))
    for g, name in zip(got, ("grad_feat_t", "grad_feat_r"), strict=True):
      np.testing.assert_allclose(g, last(case[name]), rtol=0,
                                 atol=1e-5 * max(1, np.abs(case[name]).max()))


def test_scores_that_are_exactly_zero(golden_dir):
  for case in cases(golden_dir, "colorizer_*.npz", "out_authors"):
    args = [last(case[n]) for n in ("feat_t", "feat_r", "prep_soft")]
    for border, name in [("mask", "out_geometric_mask"), ("released", "out_authors")]:
      got = attend(*args, radius=6, border=border)
      np.testing.assert_allclose(got, last(case[name]), rtol=0, atol=1e-6)


def test_values_at_stride_4(golden_dir):
  for case in cases(golden_dir, "colorizer_*.npz", "prep_label"):
    got = resample.labels_to_cells(case["label"][:, 0], 256, rule="id_average")
    np.testing.assert_array_equal(got.argmax(-1), case["prep_label"])
    got = resample.to_cells(last(case["soft"]), align="half_pixel")
    np.testing.assert_allclose(got, last(case["prep_soft"]), rtol=0, atol=1e-6)


def test_mast(golden_dir):
  for case in cases(golden_dir, "mast_colorizer*.npz"):
    labels = resample.labels_to_cells(case["labels"], int(case["n_classes"]), rule="slice")
    q, k, radius = last(case["feat_t"]), last(case["feat_r"]), int(case["radius"])
    got = attend(q, k[None], labels[None], radius=radius, border="zero")
    np.testing.assert_allclose(got, last(case["out_short_refs"]), **TIGHT)
    values = last(case["train_values"])[:, ::4, ::4]
    got = attend(q, k[:1], values, radius=radius, border="zero")
    np.testing.assert_allclose(got, last(case["train_out"]), **TIGHT)
    error = np.abs(20 * (resample.to_pixels(got, values_size(case), align="half_pixel")
                         - last(case["train_target"])))
    loss = np.where(error < 1, 0.5 * error ** 2, error - 0.5).mean()
    np.testing.assert_allclose(loss, case["train_loss"], rtol=1e-5)


def values_size(case):
  return case["train_target"].shape[-2:]


def test_mast_coarse_search(golden_dir):
  """The expected displacement in a dilated window; cells beyond the map count with score 0."""
  for case in cases(golden_dir, "mast_colorizer*.npz"):
    q, k, dilation, reach = last(case["feat_t"]), last(case["feat_r"])[:1], 2, 12
    want = case["long_ref_offset_xy"]
    volume = window_attention.correlation(q, k, reach, dilation=dilation)
    offsets = np.arange(-reach, reach + 1) * dilation
    y, x = np.meshgrid(offsets, offsets, indexing="ij")
    got = jax.nn.softmax(volume, -1) @ np.stack([x.ravel(), y.ravel()], -1).astype(np.float32)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-3)


def crw_step(case, t, features, labels, **options):
  """One frame of the protocol: the first frame whole, the others within a disk."""
  index = case["key_indices"][t]
  radius = (None,) + (float(case["radius"]),) * (len(index) - 1)
  target = features[int(case["n_context"]) + t][None]
  return attend(target, features[index][None], labels[None], radius=radius, shape="disk",
                temperature=float(case["temperature"]), top_k=int(case["topk"]), **options)


def crw_features(case):
  return np.asarray(normalise.l2(jnp.moveaxis(jnp.asarray(case["features_raw"][0]), 0, -1)))


def test_crw_propagation(golden_dir):
  for case in cases(golden_dir, "propagate_crw*.npz"):
    features, n = crw_features(case), int(case["n_context"])
    labels = [case["first_label"]] * n
    for t in range(1, len(case["pred"])):
      index = case["key_indices"][t]
      # The first `n` frames are copies of frame 0 and hold its label.
      known = np.stack([labels[i] if i < n else case["pred"][i - n] for i in index])
      got = crw_step(case, t, features, known)
      np.testing.assert_allclose(got[0], case["pred"][t], **TIGHT)


def test_crw_weights(golden_dir):
  """Values that name their cell bring the weights to light.

  Those of copies of one frame are added up: between equal cells the choice is free.
  """
  for case in cases(golden_dir, "propagate_crw*.npz"):
    features = crw_features(case)
    for t in range(1, len(case["pred"])):
      r, (h, w) = len(case["key_indices"][t]), features.shape[1:3]
      _, copy = np.unique(np.maximum(case["key_indices"][t], case["n_context"]),
                          return_inverse=True)
      names = np.eye(r * h * w, dtype=np.float32).reshape(r, h, w, -1)
      fold = np.kron(np.eye(copy.max() + 1)[copy], np.eye(h * w))
      got = np.asarray(crw_step(case, t, features, names))[0].reshape(h * w, -1)
      want = np.zeros_like(got)
      for k in range(int(case["topk"])):
        want[np.arange(h * w), case["indices"][t, k]] += case["weights"][t, k]
      np.testing.assert_allclose(got @ fold, want @ fold, **TIGHT)


def test_crw_disk(golden_dir):
  for case in cases(golden_dir, "propagate_crw*.npz"):
    h, w = case["features_raw"].shape[-2:]
    q = np.zeros((1, h, w, 1), np.float32)
    names = np.eye(h * w, dtype=np.float32).reshape(1, h, w, -1)
    got = attend(q, q, names, radius=float(case["radius"]), shape="disk")
    np.testing.assert_array_equal(got.reshape(h * w, h * w) > 0, case["mask_within"][0])


def test_resampling(golden_dir):
  for case in cases(golden_dir, "resample*.npz"):
    small = last(case["small"])
    for name in [n for n in case if n.startswith("up")]:
      want = last(case[name])
      got = resample.to_pixels(small, want.shape[1:3], align="half_pixel")
      np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * max(1, np.abs(want).max()))
    got = resample.to_cells(last(case["label"]), align="half_pixel")
    np.testing.assert_allclose(got, last(case["label_down_float"]), rtol=0, atol=1e-5)
    got = resample.labels_to_cells(case["label"][:, 0], 256, rule="id_average")
    np.testing.assert_array_equal(got.argmax(-1), case["label_down_index"])
