"""The encoder against the authors' module: values and gradients."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.golden.rules import make_params
from tests.reference import transformer as reference
from vssl_jax.convert import tca as convert
from vssl_jax.models.transformer import TransformerEncoder


def cases(golden_dir):
  names = json.loads((golden_dir / "tca" / "names.json").read_text())
  found = {k: v for k, v in names.items() if k.startswith("tca_")}
  assert found, "names.json holds no encoder case"
  return found


def load(golden_dir, name):
  with np.load(golden_dir / "tca" / f"{name}.npz", allow_pickle=False) as f:
    return {k: f[k] for k in f.files}


def matching_model(params, data) -> TransformerEncoder:
  """The encoder with the head count that fits the twin best: the files state none.

  A wrong count is off by far more than the tolerance, so the comparison below still decides.
  """
  wide, x, errors = jax.tree.map(np.float64, params), data["x"][:1].transpose(0, 2, 1), {}
  for heads in (h for h in (1, 2, 4, 8, 16) if x.shape[2] % h == 0):
    video, _ = reference.encode(wide, x, data["lens"][:1], heads)
    errors[heads] = np.abs(video - data["video"][:1]).max()
  return TransformerEncoder(len(params), min(errors, key=errors.get))


@functools.partial(jax.jit, static_argnums=0)
def apply(model, params, x, length):
  return model.apply({"params": params}, x, length)


def test_encoder_reproduces_video_frames_and_gradients(golden_dir):
  for name, case in cases(golden_dir).items():
    data = load(golden_dir, name)
    params = convert.from_torch(make_params(case))
    x, length = jnp.asarray(data["x"].transpose(0, 2, 1)), jnp.asarray(data["lens"])
    model = matching_model(params, data)

    def video(params, x, model=model, length=length):
      return model.apply({"params": params}, x, length)["video"]

    out = apply(model, params, x, length)
    np.testing.assert_allclose(out["video"], data["video"], atol=1e-5, err_msg=name)
    np.testing.assert_allclose(out["frames"], data["frames"], atol=1e-5, err_msg=name)
    if "grad_x" not in data:
      continue

    def scalar(params, x, video=video, r=data["cotangent"]):
      return jnp.sum(r * video(params, x))

    grad_p, grad_x = jax.jit(jax.grad(scalar, argnums=(0, 1)))(params, x)
    np.testing.assert_allclose(grad_x.transpose(0, 2, 1), data["grad_x"], atol=2e-5, err_msg=name)
    grads = convert.to_torch(grad_p)
    norms = [np.linalg.norm(grads[k]) for k in sorted(grads)]
    np.testing.assert_allclose(norms, data["grad_param_l2"], rtol=1e-4, atol=1e-6, err_msg=name)


def test_garbage_in_padding_changes_nothing(golden_dir):
  for name, case in cases(golden_dir).items():
    data = load(golden_dir, name)
    params = convert.from_torch(make_params(case))
    x, length = data["x"].transpose(0, 2, 1).copy(), data["lens"]
    noise = np.random.default_rng(0).standard_normal(x.shape).astype(np.float32)
    padding = np.arange(x.shape[1])[None, :] >= length[:, None]
    assert not x[padding].any(), f"{name}: x is not zero after its lengths"
    x[padding] = 50 * noise[padding]
    model = matching_model(params, data)
    out = apply(model, params, x, length)
    want = data.get("video_with_garbage_padding", data["video"])
    np.testing.assert_allclose(out["video"], want, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("prefix", ["", "module.", "encoder_q.", "module.encoder_q."])
def test_checkpoint_prefixes(golden_dir, prefix):
  case = next(iter(cases(golden_dir).values()))
  state = make_params(case)
  wrapped = {prefix + k: v for k, v in state.items()}
  if "encoder_q" in prefix:
    wrapped |= {prefix.replace("_q", "_k") + k: 0 * v for k, v in state.items()}
  back = convert.to_torch(convert.from_torch(wrapped))
  assert sorted(back) == sorted(state)
  for k, v in state.items():
    np.testing.assert_array_equal(back[k], v)
