"""Following one object by correlation: crops, response maps, position and scale (spec 6.3).

Boxes are left, top, width, height, in pixels counted from 0.
"""

import dataclasses
import functools
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from vssl_jax.evaluators.matchers import Matcher
from vssl_jax.ops import crops

CUBIC = -0.75  # OpenCV's a


@dataclasses.dataclass(frozen=True)
class Protocol:
  """How responses become boxes; lengths are in pixels of the crops.

  Attributes:
    exemplar, search: sides of the crops; both show the object at the same size.
    stride: between cells of a response.
    context: share of (width + height) that is added to both sides of the exemplar.
    scales: how many sizes are searched, an odd number.
    step: ratio of one to the next.
    penalty: responses of other sizes than the last one are multiplied by it.
    damping: share of a change of size that is followed.
    window: weight of the Hanning window, of the response 1 - window.
    up: responses are enlarged so many times, bicubically.
    cells: how many cells a response is taken to have; None for those that it has.
  """

  exemplar: int = 127
  search: int = 255
  stride: int = 8
  context: float = 0.5
  scales: int = 3
  step: float = 1.0375
  penalty: float = 0.9745
  damping: float = 0.59
  window: float = 0.176
  up: int = 16
  cells: int | None = None

  def __post_init__(self):
    least = {"exemplar": 1, "search": 1, "stride": 1, "scales": 1, "up": 1}
    bad = [f"{k}={getattr(self, k)}" for k, low in least.items() if getattr(self, k) < low]
    bad += [f"{k}={getattr(self, k)}" for k in ("damping", "window")
            if not 0 <= getattr(self, k) <= 1]
    if bad or self.scales % 2 == 0 or self.step <= 0 or self.context < 0:
      raise ValueError(f"tracking: {', '.join(bad) or self} is impossible; sizes are positive, "
                       "scales odd, damping and window shares")

  @property
  def factors(self) -> np.ndarray:
    """[S] what the search side is multiplied by."""
    return self.step ** (np.arange(self.scales) - self.scales // 2).astype(np.float64)


PROTOCOLS = {
  # The released tracker takes responses of 18 x 18 to be of 17 x 17, so that it moves 5.6 % too
  # little (spec 9.7). With exemplars of 127 pixels they are.
  "released": Protocol(exemplar=120, cells=17),
  "corrected": Protocol(exemplar=127),
}


@dataclasses.dataclass(frozen=True)
class State:
  """Where the object is.

  Attributes:
    centre: [2] y, x.
    size: [2] height, width.
    exemplar, search: sides of the squares around it, in pixels of the frame.
  """

  centre: np.ndarray
  size: np.ndarray
  exemplar: float
  search: float

  @property
  def box(self) -> np.ndarray:
    """[4] left, top, width, height."""
    corner = self.centre - (self.size - 1) / 2
    return np.concatenate([corner[::-1], self.size[::-1]])


def start(box: np.ndarray, protocol: Protocol) -> State:
  """The state that a first box [4] gives.

  Raises:
    ValueError: it isn't finite, or has no area.
  """
  box = np.asarray(box, np.float64)
  if box.shape != (4,) or not np.isfinite(box).all() or (box[2:] <= 0).any():
    raise ValueError(f"the first box is {box}; it should be left, top, width, height with an area")
  size = box[:1:-1]
  context = protocol.context * size.sum()
  side = float(np.sqrt((size + context).prod()))
  return State(box[1::-1] + (size - 1) / 2, size, side,
               side * protocol.search / protocol.exemplar)


def move(state: State, responses: np.ndarray, protocol: Protocol) -> State:
  """The next state.

  Args:
    responses: [S, h, w], one for each of `protocol.factors`.
  """
  responses = np.asarray(responses, np.float64)
  if responses.ndim != 3 or len(responses) != protocol.scales:
    raise ValueError(f"responses {responses.shape} should be [{protocol.scales}, h, w]")
  if not np.isfinite(responses).all():
    raise ValueError("a response isn't finite; look at the features")
  shape = [protocol.up * (protocol.cells or n) for n in responses.shape[1:]]
  rows, columns = (cubic(n, m) for n, m in zip(responses.shape[1:], shape, strict=True))
  maps = rows @ responses @ columns.T
  middle = protocol.scales // 2
  maps[np.arange(protocol.scales) != middle] *= protocol.penalty
  best = maps.max((1, 2)).argmax()
  chosen = maps[best] - maps[best].min()
  chosen /= chosen.sum() + 1e-16
  chosen = (1 - protocol.window) * chosen + protocol.window * hanning(*shape)
  place = np.array(np.unravel_index(chosen.argmax(), chosen.shape))
  factor = protocol.factors[best]
  cells = (place - (np.array(shape) - 1) / 2) / protocol.up
  centre = state.centre + cells * protocol.stride * state.search * factor / protocol.search
  grow = 1 - protocol.damping + protocol.damping * factor
  return State(centre, state.size * grow, state.exemplar * grow, state.search * grow)


class Tracker:
  """Follows one object frame by frame; nothing is learned on the way.

  Attributes:
    state: where it was last.
  """

  def __init__(self, matcher: Matcher, protocol: Protocol, frame: np.ndarray, box: np.ndarray):
    """Begins with the object in `box` [4] of `frame` uint8 [H, W, 3]."""
    self.matcher, self.protocol, self.state = matcher, protocol, start(box, protocol)
    whole = matcher.shows_search
    side, size = ((self.state.search, protocol.search) if whole else
                  (self.state.exemplar, protocol.exemplar))
    self._template = matcher.template(crops.squares(frame, self.state.centre, [side], size))

  def responses(self, frame: np.ndarray) -> np.ndarray:
    """[S, h, w] how well each place at each scale around the last one matches."""
    sides = self.state.search * self.protocol.factors
    searched = crops.squares(frame, self.state.centre, sides, self.protocol.search)
    return self.matcher.responses(self._template, searched)

  def __call__(self, frame: np.ndarray) -> np.ndarray:
    """[4] the box in the next frame, uint8 [H, W, 3]."""
    self.state = move(self.state, self.responses(frame), self.protocol)
    return self.state.box


def track(frames: Iterable[np.ndarray], box: np.ndarray, matcher: Matcher,
          protocol: Protocol) -> Iterator[tuple[np.ndarray, float]]:
  """Yields the box of every frame, and the seconds that it took; the first is `box`."""
  tracker: Any = None
  for frame in frames:
    begin = time.perf_counter()
    if tracker is None:
      tracker, found = Tracker(matcher, protocol, frame, box), np.asarray(box, np.float64)
    else:
      found = tracker(frame)
    yield found, time.perf_counter() - begin


@functools.lru_cache(8)
def cubic(n: int, m: int) -> np.ndarray:
  """[m, n] weights that enlarge n cells to m: bicubic, half-pixel centres, edges repeated."""
  at = (np.arange(m) + 0.5) * n / m - 0.5
  low = np.floor(at).astype(int)
  weights = np.zeros((m, n))
  for k in range(-1, 3):
    d = np.abs(at - low - k)
    near = (CUBIC + 2) * d**3 - (CUBIC + 3) * d**2 + 1
    far = CUBIC * (d**3 - 5 * d**2 + 8 * d - 4)
    np.add.at(weights, (np.arange(m), np.clip(low + k, 0, n - 1)), np.where(d <= 1, near, far))
  return weights


@functools.lru_cache(8)
def hanning(h: int, w: int) -> np.ndarray:
  """[h, w] window that sums to 1."""
  window = np.outer(np.hanning(h), np.hanning(w))
  return window / window.sum()
