"""A label map that a user drew, whatever program it was drawn with.

Data sets' own label maps have one form and are read by `pictures.read_labels`. Here colours become
numbers, white masks become object 1, and whatever was guessed is said.
"""

import os

import numpy as np

from data_pipelines.datasets.davis import palette
from data_pipelines.errors import DataError
from data_pipelines.pictures import opened

VOID = 255
MAX_LABELS = 255
REMEDY = ("save a PNG in which every object has one flat colour or number of its own and all else "
          "is 0 or black, drawn without smoothing")


def read(path: str | os.PathLike) -> tuple[np.ndarray, list[str]]:
  """The objects of a PNG.

  Indexed pictures give their indices, grey ones their values. Colours are looked up in DAVIS's
  palette if all of them are there; others are numbered in the order in which they come, from the
  top left corner on, black being the background. What is transparent is background. 255 is void,
  taken for background; alone it is an object drawn in white, number 1.

  Returns:
    uint8 [H, W], 0 for the background, at least one object from 1 to 254; and what has been
    decided on the way, in sentences.

  Raises:
    DataError: it can't be read, isn't a label map, or shows no object.
  """
  name = os.fspath(path)
  with opened(path, name) as image:
    if image.format != "PNG":
      raise DataError(f"{name}: is a {image.format} picture, whose colours may not be exact; "
                      f"{REMEDY}")
    mode, pixels = image.mode, np.array(image)
  if mode == "L":
    pixels = pixels // (255 // (2 ** _bits(name) - 1) if _bits(name) < 8 else 1)
  alpha = pixels[..., -1] if mode in ("LA", "RGBA") else None
  if pixels.ndim == 3:
    pixels = pixels[..., :-1] if alpha is not None else pixels
    pixels = np.where(alpha[..., None] > 0, pixels, 0) if alpha is not None else pixels
    grey = (pixels == pixels[..., :1]).all()
    ids, notes = (pixels[..., 0].astype(int), []) if grey else _of_colours(name, pixels)
  else:
    ids, notes = pixels.astype(int), []
  return _checked(name, *_without_void(name, ids, notes))


def _bits(name: str) -> int:
  """Bits a sample: few ones are values too, though Pillow spreads them over 0 to 255."""
  with open(name, "rb") as file:
    return file.read(25)[24]


def _of_colours(name: str, rgb: np.ndarray) -> tuple[np.ndarray, list[str]]:
  codes = rgb.astype(int) @ (1 << 16, 1 << 8, 1)
  found, first, index = np.unique(codes, return_index=True, return_inverse=True)
  if len(found) > MAX_LABELS:
    raise DataError(f"{name}: has {len(found)} colours, so it is no label map; {REMEDY}")
  known = {int(c): i for i, c in enumerate(palette().astype(int) @ (1 << 16, 1 << 8, 1))}
  if all(int(c) in known for c in found):
    ids, how = np.array([known[int(c)] for c in found]), "colours are those of DAVIS"
  else:
    if found[0] != 0:
      raise DataError(f"{name}: has no black, so what is background isn't known; {REMEDY}")
    ids, how = np.zeros(len(found), int), "colours were numbered as they come"
    ids[1 + first[1:].argsort()] = np.arange(1, len(found))
  meaning = sorted((i, f"#{c:06x} is {i}") for i, c in zip(ids, found, strict=True) if i)
  more = f" and {len(meaning) - 8} more" if len(meaning) > 8 else ""
  return (ids[index].reshape(codes.shape),
          [f"{how}: {', '.join(text for _, text in meaning[:8])}{more}"])


def _without_void(name: str, ids: np.ndarray, notes: list[str]) -> tuple[np.ndarray, list[str]]:
  present = set(np.unique(ids).tolist()) - {0}
  if present in ({VOID}, {2**16 - 1}):
    return np.minimum(ids, 1), [*notes, f"{max(present)} alone: an object drawn in white, taken "
                                        "for object 1"]
  if present and (max(present) > VOID or min(present) < 0):
    raise DataError(f"{name}: has labels up to {max(present)}; an indexed PNG holds 1 to 254 "
                    "(255 is void), so number the objects anew")
  if VOID in present:
    return np.where(ids == VOID, 0, ids), [*notes, "255 is void, taken for background"]
  return ids, notes


def _checked(name: str, ids: np.ndarray, notes: list[str]) -> tuple[np.ndarray, list[str]]:
  present = np.unique(ids)
  if not present.any():
    raise DataError(f"{name}: shows no object, all of it is background; {REMEDY}")
  if len(present) == 1:
    raise DataError(f"{name}: is {present[0]} everywhere, with no background; {REMEDY}")
  calm = (ids[:, 1:] == ids[:, :-1]).mean() if ids.shape[1] > 1 else 1
  if len(present) > 16 and calm < 0.75:
    raise DataError(f"{name}: has {len(present)} labels, and few pixels are like their "
                    f"neighbours, so it looks like a photograph; {REMEDY}")
  square = ((ids[1:, 1:] == ids[:-1, :-1]) & (ids[1:, 1:] == ids[1:, :-1])
            & (ids[1:, 1:] == ids[:-1, 1:]))
  thin = np.setdiff1d(present[present > 0], ids[1:, 1:][square])
  count = np.count_nonzero(present)
  if len(thin) > 1 and 2 * len(thin) >= count:
    raise DataError(f"{name}: {len(thin)} of {count} labels are lines a pixel wide, as "
                    f"the edges of smoothed drawings are; {REMEDY}")
  return ids.astype(np.uint8), notes
