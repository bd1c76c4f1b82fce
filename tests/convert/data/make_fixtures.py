"""Writes the checkpoints of this folder. Needs torch; run it in an environment that has it."""

import pathlib
from collections import OrderedDict

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent
LEGACY = {"_use_new_zipfile_serialization": False}


def dtypes() -> OrderedDict:
  """0, 1, 2, 3, 4, 5 as 2 x 3 in every element type."""
  names = (
    "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8",
    "complex64", "complex128",
  )
  state = OrderedDict((n, torch.arange(6).reshape(2, 3).to(getattr(torch, n))) for n in names)
  state["bool"] = torch.arange(6).reshape(2, 3) % 2 == 0
  return state


def windows() -> OrderedDict:
  """Tensors that are windows on shared storages, and odd shapes."""
  base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
  return OrderedDict(
    whole=base,
    transposed=base.t(),
    cut=base[1:3, 2:5],
    stepped=base[::2, 1::2],
    row=base[3],
    element=base[2, 4],
    expanded=torch.tensor([[7.0], [8.0]]).expand(2, 3),
    empty=torch.zeros(0, 3),
    scalar=torch.tensor(5, dtype=torch.int64),
    parameter=torch.nn.Parameter(torch.ones(2)),
  )


def training() -> dict:
  """What a training script saves: module, optimiser with momentum, counters, NumPy numbers."""
  torch.manual_seed(0)
  net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.BatchNorm2d(4))
  with torch.no_grad():
    for i, value in enumerate(net.state_dict().values()):
      value.copy_(torch.arange(value.numel()).reshape(value.shape) + i)
  optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
  net(torch.ones(2, 3, 5, 5)).sum().backward()
  optimiser.step()
  with torch.no_grad():
    for i, value in enumerate(net.state_dict().values()):
      value.copy_(torch.arange(value.numel()).reshape(value.shape) + i)
  return {
    "epoch": 3,
    "arch": "tiny",
    "best_acc1": torch.tensor(55.5),
    "best_loss": np.float64(0.25),
    "shape": torch.Size([1, 2]),
    "state_dict": OrderedDict(("module." + k, v) for k, v in net.state_dict().items()),
    "optimizer": optimiser.state_dict(),
  }


def main():
  for name, make in (("dtypes", dtypes), ("windows", windows), ("training", training)):
    torch.save(make(), HERE / f"{name}.pth")
    torch.save(make(), HERE / f"{name}_legacy.pth.tar", **LEGACY)
  torch.save(dtypes(), HERE / "dtypes_protocol4.pth", pickle_protocol=4)


if __name__ == "__main__":
  main()
