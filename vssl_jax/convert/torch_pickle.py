"""Reads the pickles inside torch files without running anything they name.

A pickle is a program: it may name any function of any installed module and call it. Here every
name is looked up in a fixed table of inert stand-ins, and a name outside it ends the reading.
Tensors come out as `Tensor` records, which point into storages that the caller reads.
"""

import dataclasses
import pickle
import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

# Element types by the name of torch's storage class.
STORAGES = {
  "FloatStorage": "float32",
  "DoubleStorage": "float64",
  "HalfStorage": "float16",
  "BFloat16Storage": "bfloat16",
  "LongStorage": "int64",
  "IntStorage": "int32",
  "ShortStorage": "int16",
  "CharStorage": "int8",
  "ByteStorage": "uint8",
  "BoolStorage": "bool",
  "ComplexFloatStorage": "complex64",
  "ComplexDoubleStorage": "complex128",
}

NUMPY_CODES = (
  "b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16",
)

# Ways to reach code or memory around the table; torch writes none of them.
REFUSED_OPCODES = {"EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEXT_BUFFER", "READONLY_BUFFER"}


class TorchFileError(ValueError):
  """The file can't be read as a state dict; the message names it and says what to do."""


@dataclasses.dataclass(frozen=True)
class Storage:
  """A named run of `numel` elements; `start` is its first element within the run of that key."""

  key: str
  dtype: str
  numel: int
  start: int = 0


class Tensor:
  """A strided window on a storage, in elements."""

  __slots__ = ("offset", "size", "storage", "stride")

  def __init__(self, storage: Storage, offset: int, size: tuple, stride: tuple):
    self.storage, self.offset = storage, offset
    self.size, self.stride = tuple(size), tuple(stride)
    numbers = (offset, *self.size, *self.stride)
    sound = all(type(n) is int and 0 <= n < 2**48 for n in numbers)
    sound = sound and len(self.size) == len(self.stride) <= 32
    if not isinstance(storage, Storage) or not sound:
      raise TorchFileError("a tensor's storage, offset, size and stride make no sense")
    last = offset + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
    if 0 not in self.size and last >= storage.numel:
      raise TorchFileError(
        f"a tensor of size {list(self.size)} reaches element {last} of a storage of "
        f"{storage.numel} elements"
      )

  def __setstate__(self, state: Any) -> None:
    raise TorchFileError("a pickle tries to alter a tensor's record")


class _Dict(dict):
  """Stand-in of OrderedDict. Attributes, such as torch's `_metadata`, are dropped."""

  __slots__ = ()

  def __setstate__(self, state: Any) -> None:
    pass


class _Function:
  """A callable stand-in that a pickle can't alter."""

  __slots__ = ("_call",)

  def __init__(self, call: Callable):
    self._call = call

  def __call__(self, *args: Any) -> Any:
    return self._call(*args)

  def __setstate__(self, state: Any) -> None:
    raise TorchFileError("a pickle tries to alter a function")


class _NumpyType:
  """Stand-in of `numpy.dtype`, numbers only."""

  __slots__ = ("code", "order")

  def __init__(self, code: str, align: bool = False, copy: bool = False):
    if code not in NUMPY_CODES:
      raise TorchFileError(f"a NumPy value of type {code!r} is refused: not a number")
    self.code, self.order = code, "<"

  def __setstate__(self, state: tuple) -> None:
    if state[1] not in ("<", ">", "|", "="):
      raise TorchFileError(f"a NumPy value has the byte order {state[1]!r}")
    self.order = state[1]


def _numpy_scalar(dtype: _NumpyType, raw: bytes) -> bool | int | float | complex:
  return np.frombuffer(raw, dtype.order + dtype.code, count=1)[0].item()


def _rebuild_tensor(storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None):
  if metadata:
    raise TorchFileError(f"a tensor is stored with {sorted(metadata)} pending: resolve, then save")
  return Tensor(storage, offset, size, stride)


def _encode(text: str, encoding: str = "latin1") -> bytes:
  if encoding not in ("latin1", "latin-1"):
    raise TorchFileError(f"bytes encoded as {encoding!r}")
  return text.encode("latin1")


FUNCTIONS = {
  ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
  ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
  ("torch._utils", "_rebuild_parameter"): lambda data, requires_grad=True, hooks=None: data,
  ("torch", "Size"): tuple,
  ("numpy", "dtype"): _NumpyType,
  ("numpy.core.multiarray", "scalar"): _numpy_scalar,
  ("numpy._core.multiarray", "scalar"): _numpy_scalar,
  ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
  """Knows the table and nothing else; storages come out as records, noted in `storages`."""

  def __init__(self, stream: BinaryIO):
    super().__init__(stream, encoding="utf-8")
    self.storages = []

  def find_class(self, module: str, name: str) -> Any:
    if module in ("torch", "torch.storage") and name in STORAGES:
      return STORAGES[name]
    if (module, name) == ("collections", "OrderedDict"):
      return _Dict
    if (module, name) in FUNCTIONS:
      return _Function(FUNCTIONS[module, name])
    raise TorchFileError(
      f"the pickle asks for {module}.{name}, which isn't part of a plain state dict and could run "
      "code: the file was not loaded. If you trust its origin, load it with torch and save "
      "model.state_dict() as .safetensors"
    )

  def persistent_load(self, pid: Any) -> Storage:
    """Records of ("storage", type, key, device, numel[, (view key, start, numel)])."""
    kind, dtype, key, _, numel, *view = pid
    if kind != "storage" or dtype not in STORAGES.values() or not isinstance(key, str):
      raise TorchFileError("the pickle refers to something that isn't a known storage")
    start = 0
    if view and view[0] is not None:
      _, start, length = view[0]
      if type(start) is not int or type(length) is not int or not 0 <= start <= numel - length:
        raise TorchFileError(f"a view of storage {key} lies outside of it")
      numel = length
    if type(numel) is not int or numel < 0:
      raise TorchFileError(f"storage {key} has {numel!r} elements")
    self.storages.append(Storage(key, dtype, numel, start))
    return self.storages[-1]


def is_caffe2(data: bytes) -> bool:
  """Whether a pickle names "blobs" and NumPy arrays, as Caffe2's weights do; nothing is loaded."""
  names = set()
  try:
    for _, argument, _ in pickletools.genops(data):
      if isinstance(argument, (str, bytes)) and len(argument) < 64:  # arrays' bytes are of no use
        names.add(argument if isinstance(argument, str) else argument.decode("latin1"))
  except ValueError:  # damaged or no pickle: what was seen until then tells
    pass
  return "blobs" in names and any(n.startswith("numpy.") for n in names)


def load(stream: BinaryIO) -> tuple[Any, list[Storage]]:
  """Reads one pickle, leaving the stream just behind it.

  Returns:
    Nested dicts, lists, tuples, numbers, strings and `Tensor` records; and the storages named.

  Raises:
    TorchFileError: the pickle is broken, or names anything outside the table.
  """
  start = stream.tell()
  try:
    for opcode, argument, position in pickletools.genops(stream):
      if opcode.name in REFUSED_OPCODES:
        raise TorchFileError(f"the pickle uses {opcode.name}: the file was not loaded")
      # The C unpickler allocates as many memo slots as the largest index.
      if opcode.name.endswith("PUT") and argument > position - start:
        raise TorchFileError("the pickle's memo is out of bounds: the file was not loaded")
    stream.seek(start)
    unpickler = _Unpickler(stream)
    return unpickler.load(), unpickler.storages
  except TorchFileError:
    raise
  except Exception as error:  # a broken pickle may raise anything
    raise TorchFileError(f"broken pickle ({type(error).__name__}: {error})") from error
