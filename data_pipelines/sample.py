"""Which frames of a video to use: pure functions of times or counts, and of an rng given to them.

All return frame numbers, int64, within the video, at least one. They raise ValueError for arguments
that make no sense; a short video is no error but for `consecutive`. T frames a clip, N clips a
video.

Common to all:
- `times` is [n], the seconds from the first frame at which each frame appears (`VideoReader.times`;
  pictures without times: np.arange(n) / fps), increasing, n >= 1. A frame stays on screen until the
  next one appears, the last one for the mean gap between frames. Rotation has no influence.
- A moment that falls up to `TOLERANCE` before a frame's time (but at most half the mean gap) shows
  that frame.
- `start` and `end`, in seconds, leave the frames on screen at `start` or later that appear before
  `end`, at least the one on screen at `start`. None is the video's own start or end, and so is a
  time outside it: where `start` is after the last frame's time, that frame is left.
"""

import math
import operator

import numpy as np

# Containers round times to a millisecond; a frame that comes so little late is still on time.
TOLERANCE = 1.5e-3
SHORT = ("loop", "hold")  # what fills a clip that a video is too short for, see `clip`
ROUNDING = 1e-6  # the same for positions counted in frames


def per_second(times: np.ndarray, fps: float = 1.0, start: float | None = None,
               end: float | None = None) -> np.ndarray:
  """The frames on screen at start, start + 1/fps, start + 2/fps, ...

  Args:
    times: [n] seconds from the first frame at which each frame appears, increasing, n >= 1.
    fps: frames wanted per second; above the video's own rate frames are repeated.
    start: first moment, in seconds; None for 0. After the last frame has appeared, that one is
      taken to stay on screen.
    end: moments before it only; None for up to the last frame's appearance.

  Returns:
    int64 [m] frame numbers, m >= 1, not decreasing.
  """
  times = np.asarray(times, np.float64)
  if not times.size or not fps > 0:
    raise ValueError(f"needs at least one frame and fps > 0, got {times.size} and {fps}")
  start = max(0.0, start or 0.0)
  slack = _slack(times)
  last = times[-1] if end is None else min(times[-1], end - 2 * slack)
  count = max(1, math.floor((last - start + slack) * fps) + 1)
  moments = start + np.arange(count) / fps
  return np.maximum(np.searchsorted(times, moments + slack, side="right") - 1, 0)


def tca_parity(n_frames: int, fps: float | None) -> np.ndarray:
  """The frames that the TCA authors' extraction keeps (specs: TCA 2.1).

  With r = round(fps), frame i is kept when i = 0 or (i + 1) mod r = 0; the last one kept comes
  twice. Rates that are missing or above 144 count as 25.

  Args:
    n_frames: number of frames, at least 1.
    fps: frames per second as the file states it; None, 0 or NaN where it doesn't.

  Returns:
    int64 [m] frame numbers, m >= 2.
  """
  if n_frames < 1:
    raise ValueError("needs at least one frame")
  step = max(1, round(fps if fps and 0 < fps <= 144 else 25))
  i = np.arange(n_frames)
  kept = i[(i == 0) | ((i + 1) % step == 0)]
  return np.append(kept, kept[-1])


def clip(times: np.ndarray, n_frames: int, stride: int = 1, *, fps: float | None = None,
         rng: np.random.Generator | None = None, place: float | None = None,
         start: float | None = None, end: float | None = None, short: str = "loop") -> np.ndarray:
  """One clip: T frames, `stride` apart.

  Without `fps` the stride counts the video's own frames. With it, frames of a video played at
  `fps`: those on screen at t, t + stride/fps, t + 2 stride/fps, ... So a clip spans the same time
  in videos of any rate, constant or not, and repeats frames where the video is slower than that.
  8 x 8 at 30 fps (ProViCo 2): clip(times, 8, 8, fps=30); 32 frames at 16 fps (CycleContrast 8.1):
  clip(times, 32, fps=16).

  Args:
    n_frames: T, at least 1.
    stride: at least 1.
    fps: see above.
    rng: draws the place uniformly from all where the clip fits. Either this or `place`.
    place: from 0 (as early as possible) to 1 (as late as possible); 0.5 is the middle. To begin at
      a known time give `start`, and place=0.
    start, end: see the module.
    short: where fewer than T frames `stride` apart fit, all that do are taken from the start on,
      then "loop" takes them again and again (CycleContrast 8.1: a short clip is padded by
      repeating its start), "hold" keeps to the last frame of the part (ProViCo 2).

  Returns:
    int64 [T] frame numbers; not decreasing, unless looped.
  """
  if (rng is None) == (place is None):
    raise ValueError("needs either rng or place")
  places = np.array([place if rng is None else rng.random()], np.float64)
  if not 0 <= places[0] <= 1:
    raise ValueError(f"place is from 0 to 1, got {place}")
  return _clips(times, places, n_frames, stride, fps, start, end, short)[0]


def clips(times: np.ndarray, n_clips: int, n_frames: int, stride: int = 1, *,
          fps: float | None = None, mode: str = "uniform", rng: np.random.Generator | None = None,
          start: float | None = None, end: float | None = None, short: str = "loop") -> np.ndarray:
  """N clips of one video, each as by `clip`.

  Args:
    n_clips: N, at least 1.
    n_frames, stride, fps, start, end, short: as for `clip`.
    mode: "uniform": evenly spread, the same every time: the range of possible places is cut into
      N equal parts, and a clip begins at the centre of each (one clip: in the middle), for test
      views. "random": N independent draws, which may overlap (ProViCo 2), in no order.
    rng: for "random".

  Returns:
    int64 [N, T] frame numbers. Where the video is short, clips repeat each other.
  """
  n_clips = _at_least_one("n_clips", n_clips)
  if mode == "uniform":
    places = (np.arange(n_clips) + 0.5) / n_clips
  elif mode == "random" and rng is not None:
    places = rng.random(n_clips)
  else:
    raise ValueError(f'mode is "uniform", or "random" with an rng; got {mode!r} and rng={rng}')
  return _clips(times, places, n_frames, stride, fps, start, end, short)


def uniform(times: np.ndarray, n: int, *, start: float | None = None,
            end: float | None = None) -> np.ndarray:
  """n frames evenly spread over time: those on screen at the centres of n equal parts.

  In m frames of constant rate these are floor((k + 1/2) m / n), but for the module's tolerance.

  Returns:
    int64 [n] frame numbers, not decreasing; repeated where there are fewer than n.
  """
  return clips(times, n, 1, fps=1.0, start=start, end=end)[:, 0]


def pair(times: np.ndarray, gap: float | tuple[float, float], *, rng: np.random.Generator,
         unit: str = "frames", among: np.ndarray | None = None, start: float | None = None,
         end: float | None = None) -> np.ndarray:
  """Two frames in time order with a gap between them, at random.

  All pairs that fit are equally likely. Where none fits because the video (or `among`) is shorter
  than the gap, they are its first and last frame; where none fits otherwise, one random frame
  comes twice. A range of gaps with just two frames to choose from gives those two, however far
  apart (both rules: CycleContrast 6.2, whose pairs are pair(times, (1, 99), among=kept, rng=rng)).

  Args:
    gap: exactly so much; or (least, most), both included, of two different frames.
    rng: draws the pair.
    unit: of the gap, "frames" or "seconds". For an exact gap in seconds the second frame is the
      one on screen that long after the first appears: in slow videos it may be the first again.
    among: int [k] the only frame numbers to choose from, increasing, some of them in the part;
      None for all.
    start, end: see the module.

  Returns:
    int64 [2] frame numbers.
  """
  times = _checked(times)
  exact = np.ndim(gap) == 0
  least, most = (gap, gap) if exact else gap
  if (unit not in ("frames", "seconds") or not 0 <= least <= most or not most > 0
      or (exact and unit == "frames" and gap % 1)):
    raise ValueError("needs a gap > 0, whole in frames, or (least, most) with 0 <= least <= most "
                     f'and most > 0, in "frames" or "seconds"; got {gap} in {unit!r}')
  chosen = _chosen(len(times), among, *part(times, start, end))
  at = chosen.astype(np.float64) if unit == "frames" else times[chosen]
  if exact and unit == "seconds":
    low, high = _shown_after(at, gap, _slack(times), _stretch(times, start, end)[1])
  else:
    slack = ROUNDING if unit == "frames" else _slack(times)
    low = np.maximum(np.searchsorted(at, at + least - slack), np.arange(len(at)) + 1)
    high = np.searchsorted(at, at + most + slack, side="right")
  counts = np.maximum(high - low, 0)  # of second frames for each first; they are neighbours
  upto = np.cumsum(counts)
  if (len(at) == 2 and not exact) or (not upto[-1] and at[-1] - at[0] < least):
    return chosen[[0, -1]]
  if not upto[-1]:
    return chosen[np.repeat(rng.integers(len(at)), 2)]
  drawn = rng.integers(upto[-1])
  i = np.searchsorted(upto, drawn, side="right")
  return chosen[[i, low[i] + drawn - (upto[i] - counts[i])]]


def independent(times: np.ndarray, n: int = 2, *, rng: np.random.Generator,
                distinct: bool = False, start: float | None = None,
                end: float | None = None) -> np.ndarray:
  """n frames drawn uniformly, each without regard to the others (CycleContrast 3.2).

  Args:
    n: at least 1. CycleContrast: the query's frame, and the candidate's.
    distinct: without repeats; no frame comes again before all have come.
    start, end: see the module.

  Returns:
    int64 [n] frame numbers in no order.
  """
  n = _at_least_one("n", n)
  first, stop = part(times, start, end)
  if not distinct:
    return rng.integers(first, stop, size=n)
  rounds = [rng.permutation(stop - first) for _ in range(math.ceil(n / (stop - first)))]
  return first + np.concatenate(rounds)[:n]


def query_and_candidates(times: np.ndarray, n: int = 1, *, rng: np.random.Generator,
                         distinct: bool = False, start: float | None = None,
                         end: float | None = None) -> np.ndarray:
  """A random frame twice, for two crops of it, and n candidates (CycleContrast 3.2).

  Args:
    n: candidates; 0 for two crops alone, as MoCo has them.
    distinct: other frames than the query's and than each other, as long as there are any; the
      released code draws independently.
    rng, start, end: as for `independent`.

  Returns:
    int64 [2 + n, 1] frame numbers: the query, the query again, and the candidates.
  """
  drawn = independent(times, 1 + n, rng=rng, distinct=distinct, start=start, end=end)
  return np.concatenate([drawn[:1], drawn])[:, None]


def consecutive(n_frames: int, n: int = 3, gap: int = 4, *, first: int = 0,
                released_numbering: int | None = None) -> np.ndarray:
  """All clips of n frames, `gap` apart, that follow each other without overlap (CorrFlow 2).

  Of the frames first, first + gap, first + 2 gap, ... each n make a clip; the remainder is left
  out. For frames at a rate in real time index the result of `per_second`:
  frames = per_second(times, 6.0); frames[consecutive(len(frames), 3, gap=1)].

  Args:
    n_frames: in the video; at least first + (n - 1) gap + 1.
    n, gap: at least 1.
    first: frame to begin with.
    released_numbering: the authors' rule instead, for files numbered from 1 (their Kinetics) or
      from 0 (OxUvA): the files 1, 1 + gap, 1 + 2 gap, ... strictly below n_frames. Files numbered
      from 1 lose their last frame thereby, files numbered from 0 their first.

  Returns:
    int64 [M, n] frame numbers counted from 0, M >= 1.

  Raises:
    ValueError: also where the video is too short for one clip; such videos are left out of the
      training, and it's for the caller to count them.
  """
  n, gap = _at_least_one("n", n), _at_least_one("gap", gap)
  released = released_numbering is not None
  if first < 0 or (released and (first or released_numbering not in (0, 1))):
    raise ValueError("needs first >= 0, or released_numbering of 0 or 1; got "
                     f"{first=}, {released_numbering=}")
  if released:
    entries = np.arange(1, n_frames, gap, dtype=np.int64) - released_numbering
  else:
    entries = np.arange(first, n_frames, gap, dtype=np.int64)
  whole = len(entries) // n
  if not whole:
    raise ValueError(f"{n_frames} frames are too few for a clip of {n}, {gap} apart")
  return entries[:whole * n].reshape(whole, n)


def part(times: np.ndarray, start: float | None = None,
         end: float | None = None) -> tuple[int, int]:
  """The frames first, ..., stop - 1 that `start` and `end` leave (see the module).

  Returns:
    (first, stop), 0 <= first < stop <= n.
  """
  times = _checked(times)
  slack = _slack(times)
  begin, finish = _stretch(times, start, end)
  first = max(0, int(np.searchsorted(times, begin + slack, side="right")) - 1)
  return first, max(first + 1, int(np.searchsorted(times, finish - slack)))


def _stretch(times: np.ndarray, start: float | None, end: float | None) -> tuple[float, float]:
  """When the part begins and ends, in seconds, within 0 and the end of the video."""
  begin = 0.0 if start is None else float(start)
  finish = math.inf if end is None else float(end)
  if not begin <= finish:  # NaN too
    raise ValueError(f"needs start <= end, got {start} and {end}")
  begin = min(max(begin, 0.0), times[-1])
  return begin, max(begin, min(finish, times[-1] + _mean_gap(times)))


def _mean_gap(times: np.ndarray) -> float:
  return float(times[-1]) / max(1, len(times) - 1)


def _slack(times: np.ndarray) -> float:
  """How much a frame may be late, in seconds: in very fast videos less than `TOLERANCE`."""
  return min(TOLERANCE, _mean_gap(times) / 2) if len(times) > 1 else TOLERANCE


def _clips(times, places: np.ndarray, n_frames: int, stride: int, fps: float | None,
           start: float | None, end: float | None, short: str) -> np.ndarray:
  """int64 [N, T]: `clip` for each of `places`, float64 [N] from 0 to 1."""
  times = _checked(times)
  n_frames, stride = _at_least_one("n_frames", n_frames), _at_least_one("stride", stride)
  if fps is not None and not 0 < fps < math.inf:
    raise ValueError(f"needs fps > 0, got {fps}")
  if short not in SHORT:
    raise ValueError(f'short is "loop" or "hold", got {short!r}')
  first, stop = part(times, start, end)
  if fps is None:
    moments = _moments(places, n_frames, stride, stop - first, short, ROUNDING)
    return first + np.floor(moments + ROUNDING).astype(np.int64)
  begin, finish = _stretch(times, start, end)
  slack = _slack(times)
  moments = begin + _moments(places, n_frames, stride / fps, finish - begin, short, slack)
  shown = np.searchsorted(times, moments + slack, side="right") - 1
  return np.clip(shown, first, stop - 1).astype(np.int64)


def _moments(places: np.ndarray, n_frames: int, interval: float, length: float, short: str,
             slack: float) -> np.ndarray:
  """float64 [N, T] in 0 <= moment < length, `interval` apart: the first at place * room."""
  k = np.arange(n_frames)
  fitting = max(1, math.ceil((length - slack) / interval))
  if fitting >= n_frames:
    room = length - (n_frames - 1) * interval
    return np.clip(places * room, 0, max(0.0, room - 2 * slack))[:, None] + k * interval
  one = k % fitting * interval if short == "loop" else np.minimum(k * interval, length - 2 * slack)
  return np.tile(np.maximum(one, 0.0), (len(places), 1))


def _shown_after(at: np.ndarray, gap: float, slack: float,
                 finish: float) -> tuple[np.ndarray, np.ndarray]:
  """int64 [k] each, low and high: low is on screen `gap` seconds after each frame; high is one
  more where the part still goes on then, else the same."""
  low = np.searchsorted(at, at + gap + slack, side="right") - 1
  return low, low + (at + gap + slack < finish)


def _chosen(n: int, among: np.ndarray | None, first: int, stop: int) -> np.ndarray:
  """int64 [k], k >= 1: `among`, or all, as far as first <= number < stop."""
  if among is None:
    return np.arange(first, stop, dtype=np.int64)
  among = np.asarray(among, np.int64)
  if among.ndim != 1 or not np.all((0 <= among) & (among < n)) or np.any(np.diff(among) <= 0):
    raise ValueError(f"`among` needs increasing frame numbers from 0 to {n - 1}, got {among}")
  among = among[(first <= among) & (among < stop)]
  if not among.size:
    raise ValueError(f"`among` has no frame from {first} to {stop - 1}")
  return among


def _checked(times: np.ndarray) -> np.ndarray:
  times = np.asarray(times, np.float64)
  if times.ndim != 1 or not times.size or not np.isfinite(times).all():
    raise ValueError("times needs at least one frame: finite seconds, [n]; got "
                     f"{times.dtype} {times.shape}")
  if np.any(np.diff(times) <= 0) or times[0] < 0:
    raise ValueError("times must increase, from 0 on")
  return times


def _at_least_one(name: str, value: int) -> int:
  try:
    number = operator.index(value)  # refuses fractions
  except TypeError:
    number = 0
  if number < 1:
    raise ValueError(f"{name} must be a whole number, at least 1, got {value!r}")
  return number
