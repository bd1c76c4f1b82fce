"""Pickles that name code, or sizes that aren't theirs, are refused and run nothing."""

import io
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from tests.convert.checkpoints import Call, with_pickle
from vssl_jax.convert import torch_pickle
from vssl_jax.convert.torch_file import TorchFileError, read


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("function", [os.system, eval, getattr, pickle.loads, bytes])
def test_no_function_of_a_pickle_is_run(tmp_path, function, protocol, wrap):
  witness = tmp_path / "witness"
  argument = f"touch {witness}" if function is os.system else f"open({str(witness)!r}, 'w')"
  tree = {"state_dict": Call(function, argument)} if wrap else Call(function, argument)
  path = with_pickle(tmp_path, pickle.dumps(tree, protocol))
  with pytest.raises(TorchFileError, match=rf"made\.pth.*{function.__name__}.*not loaded"):
    read(path)
  legacy = tmp_path / "legacy.pth"
  legacy.write_bytes(pickle.dumps(tree, protocol))
  with pytest.raises(TorchFileError, match=r"not loaded|neither a torch checkpoint"):
    read(legacy)
  assert not witness.exists()


def forbid(*args):
  raise AssertionError("a pickle was loaded")


@pytest.mark.parametrize("key", ["blobs", b"blobs"], ids=repr)
@pytest.mark.parametrize("protocol", [0, 1, 2, 5])
def test_caffe2_is_told_apart_and_not_loaded(tmp_path, monkeypatch, protocol, key):
  monkeypatch.setattr(torch_pickle, "_Unpickler", forbid)
  witness = tmp_path / "witness"
  tree = {"cfg": "MODEL: {}", key: {"conv1_w": np.full((2, 3), 200, np.uint8), "lr": np.float32(1)},
          "evil": Call(os.system, f"touch {witness}")}
  path = tmp_path / "SLOWONLY_8x8_R50.pkl"
  # Python 2, which wrote them, has other opcodes for its strings.
  old = pickle.dumps(tree, protocol).replace(b"X\x05\0\0\0blobs", b"U\x05blobs")
  for data in (pickle.dumps(tree, protocol), old, old[:-9]):
    path.write_bytes(data)
    with pytest.raises(TorchFileError, match=r"8x8_R50\.pkl: weights of Caffe2.*\.pyth files are"):
      read(path)
  assert not witness.exists()


@pytest.mark.parametrize("tree", [
  {"weights": np.ones(2)}, {"blobs": {"a": [1.0]}}, {"blob": {"blobs2": np.ones(2)}}], ids=str)
def test_other_pickles_are_not_taken_for_caffe2(tmp_path, tree):
  path = tmp_path / "x.pkl"
  path.write_bytes(pickle.dumps(tree, 2))
  with pytest.raises(TorchFileError) as error:
    read(path)
  assert "Caffe2" not in str(error.value)


def test_legacy_file_with_a_hostile_tree(tmp_path):
  header = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
  hostile = Call(os.system, f"touch {tmp_path / 'witness'}")
  path = tmp_path / "x.pth"
  path.write_bytes(b"".join(pickle.dumps(part, 2) for part in (*header, hostile, [])))
  with pytest.raises(TorchFileError, match=r"system.*not loaded"):
    read(path)
  assert not (tmp_path / "witness").exists()


def test_dotted_names_do_not_reach_attributes(tmp_path):
  # Protocol 4 resolves "a.b" by attributes, which would lead out of an allowed module.
  data = b"\x80\x04\x8c\x0bcollections\x8c\x12OrderedDict.fromke\x93."
  with pytest.raises(TorchFileError, match=r"OrderedDict\.fromke.*not loaded"):
    read(with_pickle(tmp_path, data))


@pytest.mark.parametrize(
  "data",
  [
    b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}\x8c\x05_callK\x01sb.",  # BUILD on a function
    b"\x80\x02ccollections\nOrderedDict\n}b.",  # BUILD on a class
    b"\x80\x02ctorch\nFloatStorage\n}b.",
    b"\x80\x02\x82\x01.",  # EXT1
    b"\x80\x02Nr\xff\xff\xff\x7f.",  # a memo index that allocates 16 GiB
    b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",  # a frame of 8 EiB
    b"\x80\x02X\xff\xff\xff\x7fabc.",  # a string of 2 GiB
    b"\x80\x02cnumpy\ndtype\n\x8c\x01O\x85R.",  # an object type
    b"\x80\x02.",  # nothing on the stack
    b"\x80\x02}",  # no end
    b"",
  ],
)
def test_broken_pickles(tmp_path, data):
  with pytest.raises(TorchFileError, match=r"made\.pth: "):
    read(with_pickle(tmp_path, data))


def tensor_pickle(storage=("storage", "float32", "0", "cpu", 24), offset=0, size=(2,), stride=(1,)):
  """A state dict of one tensor `w`, with made-up numbers."""
  buffer = io.BytesIO()

  class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
      return storage if obj == "the storage" else None

    def reducer_override(self, obj):
      if isinstance(obj, Call):
        return torch_pickle._rebuild_tensor, ("the storage", offset, size, stride, False, None)
      return NotImplemented

  Pickler(buffer, 2).dump(OrderedDict(w=Call(None)))
  named = f"{torch_pickle.__name__}\n_rebuild_tensor\n".encode()
  return buffer.getvalue().replace(named, b"torch._utils\n_rebuild_tensor_v2\n")


def test_made_tensor_pickle_is_read(tmp_path):
  """So that the refusals below aren't refusals of the way the pickle is made."""
  state = read(with_pickle(tmp_path, tensor_pickle(offset=3, size=(2, 2), stride=(6, 1))))
  np.testing.assert_array_equal(state["w"], [[3, 4], [9, 10]])


@pytest.mark.parametrize(
  ("change", "reason"),
  [
    ({"offset": 23}, "reaches element 24"),
    ({"size": (2, 2), "stride": (23, 1)}, "reaches element 24"),
    ({"size": (25,)}, "reaches element 24"),
    ({"offset": -1}, "make no sense"),
    ({"stride": (-1,)}, "make no sense"),
    ({"size": (2.0,)}, "make no sense"),
    ({"size": (2, 2)}, "make no sense"),
    ({"size": (1,) * 40, "stride": (1,) * 40}, "make no sense"),
    ({"storage": ("storage", "float32", "0", "cpu", 25), "size": (25,)}, "holds 24"),
    ({"storage": ("storage", "float64", "0", "cpu", 24)}, "holds 12"),
    ({"storage": ("storage", "float32", "77", "cpu", 24)}, "data/77 is missing"),
    ({"storage": ("storage", "float32", "../version", "cpu", 24)}, "missing"),
    ({"storage": ("storage", "object", "0", "cpu", 24)}, "isn't a known storage"),
    ({"storage": ("module", "float32", "0", "cpu", 24)}, "isn't a known storage"),
    ({"storage": ("storage", "float32", "0", "cpu", -1)}, "-1 elements"),
    ({"storage": ("storage", "float32", "0", "cpu", 24, ("v", 20, 5))}, "outside of it"),
    ({"size": (2**30, 2), "stride": (0, 1)}, "bytes of tensors from a file of"),
    ({"size": (0, 2**40, 2**40), "stride": (1, 1, 1)}, "a tensor of size"),
  ],
)
def test_no_read_beyond_a_storage(tmp_path, change, reason):
  with pytest.raises(TorchFileError, match=reason):
    read(with_pickle(tmp_path, tensor_pickle(**change)))
