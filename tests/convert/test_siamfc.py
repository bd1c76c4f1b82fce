"""Heads of SiamFC from files of others: found by their names, laid out as ours, or refused."""

import pathlib

import jax
import numpy as np
import pytest

from tests.convert import checkpoints
from tests.reference import tracking as reference
from vssl_jax.convert import siamfc
from vssl_jax.models.siamfc import SiamFCHead

C, D = 4, 3
VFS = ("head.z_convs.0", "head.x_convs.0")
VINCE = ("exemplar_decoder.0", "search_patch_decoder.0")


def state(names=VFS, seed=0):
  """A head's tensors, and others that a checkpoint has."""
  rng = np.random.default_rng(seed)
  found = {"backbone.layer1.0.conv1.conv.weight": rng.normal(size=(C, D, 1, 1)),
           "backbone.layer1.0.conv1.bn.bias": rng.normal(size=C)}
  for name in names:
    found |= {f"{name}.weight": rng.normal(size=(C, D, 1, 1)), f"{name}.bias": rng.normal(size=C)}
  return {name: value.astype(np.float32) for name, value in found.items()}


@pytest.mark.parametrize("names", [VFS, VINCE, ("module.neck.template", "module.neck.instance"),
                                   ("z_convs.0", "x_convs.0")])
def test_a_file_of_others(names, tmp_path):
  tensors = state(names)
  path = checkpoints.write(tmp_path / "epoch_50.pth", tensors,
                           meta={"epoch": 49, "scheduler": {"gamma": np.float64(0.9)}},
                           optimizer={"state": {}, "param_groups": [{"lr": np.float64(1e-3)}]})
  found = siamfc.load(path)
  assert found.settings == {"features": D, "channels": C} and not found.batch_stats
  rng = np.random.default_rng(1)
  exemplar, search = (rng.normal(size=(1, n, n, D)).astype(np.float32) for n in (2, 4))
  got = SiamFCHead(C, 0.5).apply({"params": found.params}, exemplar, search)
  halves = [np.einsum("hwd,cd->hwc", x[0], tensors[f"{name}.weight"][:, :, 0, 0].astype(float))
            + tensors[f"{name}.bias"] for name, x in zip(names, (exemplar, search), strict=True)]
  np.testing.assert_allclose(got[0], 0.5 * reference.cross_correlate(*halves), rtol=1e-4, atol=1e-5)
  assert jax.tree.map(np.shape, found.params) == jax.tree.map(
      np.shape, SiamFCHead(C, 0.5).init(jax.random.key(0), exemplar, search)["params"])


def test_half_precision_is_widened():
  half = {name: value.astype(np.float16) for name, value in state().items()}
  leaves = jax.tree.leaves(siamfc.convert(half).params)
  assert {leaf.dtype for leaf in leaves} == {np.dtype("float32")}


def without(name):
  return {k: v for k, v in state().items() if k != name}


@pytest.mark.parametrize("tensors, words", [
  (state(()), r"no exemplar branch of a SiamFC head.*there is no such name.*train one"),
  (state(VFS[:1]), r"no search branch .* with instance, search, x in its name"),
  (without("head.x_convs.0.bias"), r"no search branch.*; there is head\.x_convs\.0\.weight \[4,"),
  (state() | {"head.z_convs.0.weight": np.ones((C, D, 3, 3), np.float32)},
   r"no exemplar branch.*head\.z_convs\.0\.weight \[4, 3, 3, 3\]"),
  (state((*VFS, "head.z_convs.1")), r"several.*exemplar.*z_convs\.0\.weight, head\.z_convs\.1\.w"),
  (state(("head.template_search", VFS[1])), r"no exemplar branch.*no such name"),
  (state() | {"head.z_convs.0.weight": np.ones((C, 5, 1, 1), np.float32)},
   r"the branches differ: head\.z_convs\.0\.weight \[4, 5, 1, 1\] and head\.x_convs\.0\.weight"),
  (state() | {"head.x_convs.0.bias": np.ones(5, np.float32)},
   r"head\.x_convs\.0\.bias \[5\] doesn't fit head\.x_convs\.0\.weight \[4, 3, 1, 1\]"),
  (state() | {"head.x_convs.0.bias": np.full(C, np.nan, np.float32)},
   r"head\.x_convs\.0\.bias holds non-finite")])
def test_what_is_no_head_is_refused(tensors, words, tmp_path):
  path = checkpoints.write(tmp_path / "file.pth", tensors)
  with pytest.raises(ValueError, match=r"(?s)file\.pth: " + words):
    siamfc.load(path)


def test_nothing_is_run(tmp_path):
  path = tmp_path / "made"
  hostile = checkpoints.Call(pathlib.Path.touch, path)
  data = checkpoints.pickle.dumps({"state_dict": hostile}, 2)
  with pytest.raises(siamfc.torch_file.TorchFileError, match=r"made\.pth: the pickle asks for"):
    siamfc.load(checkpoints.with_pickle(tmp_path, data))
  assert not path.exists()
