"""What compares an object with its surroundings in later frames: learned heads, or a ridge filter.

Both take an `embed` of crops, `{"image": uint8 [B, H, W, 3]}` to maps [B, h, w, D].
"""

import dataclasses
from typing import Any, Protocol

import numpy as np
import scipy.fft

from vssl_jax.evaluators.dense import Embed
from vssl_jax.ops.correlation import cross_correlate


class Matcher(Protocol):
  """Attributes: `shows_search`, the template is made of a crop of the search's size, not the
  exemplar's."""

  shows_search: bool

  def template(self, crop: np.ndarray) -> Any:
    """What is kept of the object, from uint8 [1, H, W, 3]."""

  def responses(self, template: Any, crops: np.ndarray) -> np.ndarray:
    """[S, h, w] of uint8 [S, H, W, 3]; the middle is where the object stayed."""


@dataclasses.dataclass(frozen=True)
class Siamese:
  """SiamFC: the exemplar's map slides over the search's.

  Attributes:
    embed: gives "exemplar" and "search", as `methods.siamfc` does.
  """

  embed: Embed
  shows_search = False

  def template(self, crop):
    return _map(self.embed, crop, "exemplar")

  def responses(self, template, crops):
    return np.asarray(cross_correlate(template, _map(self.embed, crops, "search")))


@dataclasses.dataclass(frozen=True)
class Ridge:
  """A correlation filter in closed form: tracking on frozen features, with nothing to train.

  The filter w minimises `|sum_d w_d * x_d - y|^2 + lambda |w|^2`, where * is circular correlation
  over the cells of the first search crop, x are its features (less their mean over the cells, of
  unit mean square, under a Hanning window) and y is a Gaussian in the middle. With one crop the
  solution is, at each frequency, `conj(X_d) Y / (sum_d |X_d|^2 + lambda)` (Danelljan et al. 2014,
  as MOSSE with many channels). It isn't updated, as in SiamFC, so what is measured is how well the
  features keep an object apart from its surroundings.

  Attributes:
    embed: gives "features".
    regularisation: lambda, in units of the mean of `sum_d |X_d|^2` over frequencies.
    sigma: of the Gaussian, in cells.
  """

  embed: Embed
  regularisation: float = 0.01
  sigma: float = 1.0
  shows_search = True

  def __post_init__(self):
    if not (self.regularisation > 0 and self.sigma > 0):
      raise ValueError(f"regularisation={self.regularisation} and sigma={self.sigma} must be above "
                       "0")

  def template(self, crop):
    x = windowed(_map(self.embed, crop, "features"))[0]
    spectrum = scipy.fft.rfft2(x, axes=(0, 1))
    power = np.square(np.abs(spectrum)).sum(-1, keepdims=True)
    if not power.any():
      raise ValueError("the features of the first crop are the same everywhere")
    wanted = scipy.fft.rfft2(gaussian(*x.shape[:2], self.sigma))[..., None]
    return x.shape, spectrum.conj() * wanted / (power + self.regularisation * power.mean())

  def responses(self, template, crops):
    shape, learned = template
    x = windowed(_map(self.embed, crops, "features"))
    if x.shape[1:] != shape:
      raise ValueError(f"maps of a search {x.shape[1:]} don't fit that of the first crop, {shape}")
    spectrum = scipy.fft.rfft2(x, axes=(1, 2))
    return scipy.fft.irfft2((spectrum * learned).sum(-1), s=shape[:2], axes=(1, 2))


def windowed(x: np.ndarray) -> np.ndarray:
  """[B, h, w, D] less the mean over cells, of unit mean square, faded out towards the edges."""
  x = x - x.mean((1, 2), keepdims=True)
  x = x / np.sqrt(np.square(x).sum(-1).mean((1, 2)) + 1e-12)[:, None, None, None]
  fade = np.outer(*(np.hanning(n + 2)[1:-1] for n in x.shape[1:3]))  # zero beyond the edges
  return (x * fade[..., None]).astype(np.float32)


def gaussian(h: int, w: int, sigma: float) -> np.ndarray:
  """[h, w] with a peak of about 1 in the middle, between cells where a side is even."""
  y, x = (np.square(np.arange(n) - (n - 1) / 2) for n in (h, w))
  return np.exp(-(y[:, None] + x) / (2 * sigma**2))


def _map(embed: Embed, crops: np.ndarray, name: str) -> np.ndarray:
  out = embed({"image": crops})
  if name not in out or np.ndim(out[name]) != 4:
    found = {key: np.shape(x) for key, x in out.items()}
    raise ValueError(f"embed gave {found}; this tracker needs {name!r} [B, h, w, D]")
  return np.asarray(out[name], np.float32)
