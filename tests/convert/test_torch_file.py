"""Files that torch wrote are read bit for bit; damaged and hostile ones are refused."""

import pickle
import shutil
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from tests.convert.checkpoints import DATA, rewrite, with_pickle
from vssl_jax.convert.torch_file import TorchFileError, read, strip_prefix

BOTH = (".pth", "_legacy.pth.tar")


@pytest.mark.parametrize("suffix", [*BOTH, "_protocol4.pth"])
def test_every_element_type(suffix):
  state = read(DATA / f"dtypes{suffix}")
  numbers = np.arange(6).reshape(2, 3)
  names = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8",
           "complex64", "complex128")
  expected = {name: numbers.astype(name) for name in names}
  expected["bfloat16"] = numbers.astype(ml_dtypes.bfloat16)
  expected["bool"] = numbers % 2 == 0
  assert state.keys() == expected.keys()
  for name, value in expected.items():
    assert state[name].dtype == value.dtype, name
    np.testing.assert_array_equal(state[name], value)


@pytest.mark.parametrize("suffix", BOTH)
def test_windows_on_shared_storage(suffix):
  state = read(DATA / f"windows{suffix}")
  base = np.arange(24, dtype=np.float32).reshape(4, 6)
  expected = {
    "whole": base, "transposed": base.T, "cut": base[1:3, 2:5], "stepped": base[::2, 1::2],
    "row": base[3], "element": base[2, 4], "expanded": np.array([[7.0] * 3, [8.0] * 3]),
    "empty": np.zeros((0, 3)), "scalar": np.array(5), "parameter": np.ones(2),
  }
  assert list(state) == list(expected)
  for name, value in expected.items():
    np.testing.assert_array_equal(state[name], value, strict=False)
    assert state[name].shape == value.shape
    assert state[name].flags.c_contiguous
  state["whole"][:] = -1  # each array owns its memory
  np.testing.assert_array_equal(state["row"], base[3])


@pytest.mark.parametrize("suffix", BOTH)
def test_training_checkpoint_is_unwrapped(suffix):
  path = DATA / f"training{suffix}"
  state = strip_prefix(read(path), "module.")
  names = ["0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var",
           "1.num_batches_tracked"]
  shapes = [(4, 3, 3, 3), (4,), (4,), (4,), (4,), ()]
  assert list(state) == names
  for i, (name, shape) in enumerate(zip(names, shapes, strict=True)):
    np.testing.assert_array_equal(state[name], np.arange(np.prod(shape)).reshape(shape) + i)
  assert read(path, entry="state_dict").keys() == read(path).keys()


def test_unknown_entry_lists_those_there():
  with pytest.raises(TorchFileError, match=r"no entry 'ema'.*'epoch', 'arch'"):
    read(DATA / "training.pth", entry="ema")


def test_big_endian(tmp_path):
  sizes = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4,
           "int16": 2, "int8": 1, "uint8": 1, "complex64": 4, "complex128": 8, "bool": 1}

  def swap(name, data):
    if name == "byteorder":
      return b"big"
    if name.startswith("data/"):
      unit = list(sizes.values())[int(name[5:])]
      return np.frombuffer(data, f"u{unit}").byteswap().tobytes()
    return data

  swapped = read(rewrite(DATA / "dtypes.pth", tmp_path / "big.pth", swap))
  for name, value in read(DATA / "dtypes.pth").items():
    np.testing.assert_array_equal(swapped[name], value)


def test_safetensors(tmp_path):
  rng = np.random.default_rng(0)
  state = {"a": rng.normal(size=(2, 3)).astype(np.float32), "b": np.array([True, False]),
           "c": np.arange(3), "empty": np.zeros((0, 2), np.float16)}
  path = tmp_path / "x.safetensors"
  safetensors.numpy.save_file(state, path)
  loaded = read(path)
  assert loaded.keys() == state.keys()
  for name, value in state.items():
    assert loaded[name].dtype == value.dtype
    np.testing.assert_array_equal(loaded[name], value)
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(TorchFileError, match=r"x\.safetensors: damaged"):
    read(path)


def test_safetensors_bfloat16(tmp_path):
  header = b'{"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
  numbers = np.array([1.5, -2], ml_dtypes.bfloat16)
  path = tmp_path / "x.safetensors"
  path.write_bytes(struct.pack("<Q", len(header)) + header + numbers.tobytes())
  np.testing.assert_array_equal(read(path)["w"], numbers)


def test_strip_prefix():
  state = {"module.encoder_q.conv1": 1, "module.encoder_k.conv1": 2, "module.queue": 3}
  assert strip_prefix(state, "module.", "encoder_q.", "absent.") == {"conv1": 1}
  assert strip_prefix(state, "module.") == {"encoder_q.conv1": 1, "encoder_k.conv1": 2, "queue": 3}


@pytest.mark.parametrize("name", [f"{n}{s}" for n in ("windows", "training") for s in BOTH])
def test_truncated_anywhere(tmp_path, name):
  data = (DATA / name).read_bytes()
  path = tmp_path / name
  for length in range(0, len(data) - 1, 7):
    path.write_bytes(data[:length])
    with pytest.raises(TorchFileError, match=name):
      read(path)


@pytest.mark.parametrize("name", ["windows.pth", "windows_legacy.pth.tar"])
def test_flipped_bytes_never_crash(tmp_path, name):
  """A damaged file is refused, or differs only in values: no other exception, no wrong shape."""
  data, good = (DATA / name).read_bytes(), read(DATA / name)
  rng = np.random.default_rng(0)
  path = tmp_path / name
  refused = 0
  for _ in range(1000):
    damaged = bytearray(data)
    damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
    path.write_bytes(damaged)
    try:
      assert len(read(path)) <= len(good)
    except TorchFileError:
      refused += 1
  assert refused > 200


def test_corrupt_storage_is_seen_by_its_checksum(tmp_path):
  data = (DATA / "windows.pth").read_bytes()
  row = np.arange(18, 24, dtype=np.float32).tobytes()
  assert data.count(row) == 1
  path = tmp_path / "x.pth"
  path.write_bytes(data.replace(row, row[::-1]))
  with pytest.raises(TorchFileError, match=r"data/0 is missing or damaged.*CRC"):
    read(path)


def test_compressed_zip_is_refused(tmp_path):
  def bomb(name, data):
    return bytes(10**7) if name == "data/0" else data

  source, target = DATA / "windows.pth", tmp_path / "x.pth"
  path = rewrite(source, target, bomb, compression=zipfile.ZIP_DEFLATED)
  with pytest.raises(TorchFileError, match="compressed"):
    read(path)


def test_other_zip_files(tmp_path):
  script = rewrite(DATA / "windows.pth", tmp_path / "script.pt", lambda _, data: data)
  with zipfile.ZipFile(script, "a") as archive:
    archive.writestr("windows/constants.pkl", b"")
  with pytest.raises(TorchFileError, match="TorchScript"):
    read(script)
  other = tmp_path / "other.pth"
  with zipfile.ZipFile(other, "w") as archive:
    archive.writestr("hello.txt", b"")
  with pytest.raises(TorchFileError, match=r"no data\.pkl"):
    read(other)


@pytest.mark.parametrize(
  ("data", "reason"),
  [
    (b"", "empty file"),
    (b"\n<!DOCTYPE html><html><body>Quota exceeded</body></html>", "web page"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
    (b"\x89HDF\r\n\x1a\n", "neither a torch checkpoint"),
    (pickle.dumps({"weight": [1, 2]}), "broken pickle|not one that torch.save wrote"),
  ],
)
def test_other_files_under_this_name(tmp_path, data, reason):
  path = tmp_path / "resnet50.pth"
  path.write_bytes(data)
  with pytest.raises(TorchFileError, match=rf"resnet50\.pth: .*({reason})"):
    read(path)


def test_missing_file_keeps_its_name(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
    read(tmp_path / "absent.pth")


@pytest.mark.parametrize(
  ("tree", "reason"),
  [
    ([1, 2], "there is a list"),
    ({"a": {"x": 1}, "b": {"y": 2}}, "there are 2 entries: 'a', 'b'"),
    ({}, "there are 0 entries"),
  ],
)
def test_no_state_dict(tmp_path, tree, reason):
  with pytest.raises(TorchFileError, match=f"no state dict found; {reason}"):
    read(with_pickle(tmp_path, pickle.dumps(tree, 2)))


def test_a_dict_that_holds_itself_ends(tmp_path):
  tree = {}
  tree["model"] = tree
  with pytest.raises(TorchFileError, match="no state dict found"):
    read(with_pickle(tmp_path, pickle.dumps(tree, 2)))


def test_name_of_the_file_does_not_matter(tmp_path):
  shutil.copy(DATA / "windows_legacy.pth.tar", tmp_path / "x.bin")
  assert read(tmp_path / "x.bin").keys() == read(DATA / "windows.pth").keys()
