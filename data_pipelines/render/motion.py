"""Where objects and cameras are at any time.

World units: the frame's height is 1 and the frame's centre is (0, 0) for a camera at rest; x to the
right, y down, angles from x to y. Times are in seconds and may be negative or large: every path is
defined for all times, so that a scene can be seen at another time.
"""

import dataclasses

import numpy as np

MOTIONS = (
  "left_right", "up_down", "circle", "bounce", "pulse", "spin", "zigzag", "figure_eight", "swing",
  "stop_and_go",
)  # fmt: skip
CAMERAS = ("static", "pan", "zoom", "shake", "orbit")


@dataclasses.dataclass(frozen=True)
class Pose:
  """Centre [T, 2] (x, y) in world units, angle [T] in radians, scale [T] > 0."""

  centre: np.ndarray
  angle: np.ndarray
  scale: np.ndarray


def main_pose(motion: str, seed: int, t: np.ndarray) -> Pose:
  """The pose of a scene's main object, which does the motion that the class is named after.

  Args:
    motion: one of `MOTIONS`.
    seed: of the scene; sets amplitude, period, phase and place.
    t: times [T] in seconds.
  """
  rng = np.random.default_rng([seed, 11])
  phase = 2 * np.pi * (t / rng.uniform(1.6, 3.0) + rng.uniform())
  reach = rng.uniform(0.2, 0.32)
  tilt = rng.uniform(-0.35, 0.35)
  x, y, angle, scale = _MOTIONS[motion](phase, reach)
  zero = np.zeros_like(t)
  cos, sin = np.cos(tilt), np.sin(tilt)
  home = rng.uniform(-0.08, 0.08, 2)
  centre = np.stack([cos * x - sin * y + home[0], sin * x + cos * y + home[1]], 1)
  return Pose(centre, zero + angle + rng.uniform(-np.pi, np.pi), zero + scale)


def _triangle(phase):
  return 2 / np.pi * np.arcsin(np.sin(phase))


def _zigzag(p, r):
  return 1.4 * r * _triangle(p / 3), 0.45 * r * _triangle(2 * p), 0.0, 1.0


def _stop_and_go(p, r):
  turns = p / (2 * np.pi) * 2
  whole = np.floor(turns)
  s = np.clip((turns - whole) * 2, 0, 1)
  step = whole + s * s * (3 - 2 * s)
  corner = 0.5 * np.pi * step
  return 1.2 * r * np.cos(corner), 1.2 * r * np.sin(corner), 0.0, 1.0


_MOTIONS = {
  "left_right": lambda p, r: (1.5 * r * np.sin(p), 0 * p, 0.0, 1.0),
  "up_down": lambda p, r: (0 * p, 1.2 * r * np.sin(p), 0.0, 1.0),
  "circle": lambda p, r: (r * np.cos(p), r * np.sin(p), 0.0, 1.0),
  "bounce": lambda p, r: (1.3 * r * np.sin(p / 5), r - 2.2 * r * np.abs(np.sin(p)), 0.0, 1.0),
  "pulse": lambda p, r: (0 * p, 0 * p, 0.0, np.exp(1.6 * r * np.sin(p))),
  "spin": lambda p, r: (0 * p, 0 * p, p, 1.0),
  "zigzag": _zigzag,
  "figure_eight": lambda p, r: (1.4 * r * np.sin(p), 0.8 * r * np.sin(2 * p), 0.0, 1.0),
  "swing": lambda p, r: (
    1.4 * r * np.sin(1.1 * np.sin(p)), 1.4 * r * (np.cos(1.1 * np.sin(p)) - 0.7),
    -1.1 * np.sin(p), 1.0,
  ),
  "stop_and_go": _stop_and_go,
}  # fmt: skip


def wander(seed: int, index: int, t: np.ndarray) -> Pose:
  """The slow, aimless pose of object number `index` >= 1 of a scene at times t [T]."""
  rng = np.random.default_rng([seed, 12, index])
  waves = [np.sin(2 * np.pi * (t / rng.uniform(4, 9) + rng.uniform())) for _ in range(6)]
  home = rng.uniform((-0.5, -0.38), (0.5, 0.38))
  reach = rng.uniform(0.06, 0.2, 2)
  centre = np.stack([reach[i] * (waves[i] + 0.4 * waves[i + 2]) for i in (0, 1)], 1) + home
  angle = rng.uniform(0.2, 0.8) * waves[4] + rng.uniform(-np.pi, np.pi)
  return Pose(centre, angle, 1 + 0.12 * waves[5])


def camera_pose(camera: str, seed: int, t: np.ndarray) -> Pose:
  """What the camera looks at: the world point at the frame's centre, roll, and zoom.

  Args:
    camera: one of `CAMERAS`.
    seed: sets the viewpoint and the course.
    t: times [T] in seconds from the start of the shot.
  """
  rng = np.random.default_rng([seed, 13])
  centre = np.tile(rng.uniform(-0.1, 0.1, 2), (len(t), 1))
  angle = np.full(len(t), rng.uniform(-0.14, 0.14))
  scale = np.full(len(t), np.exp(rng.uniform(-0.2, 0.25)))
  heading = rng.uniform(-np.pi, np.pi)
  way = np.array([np.cos(heading), np.sin(heading)])
  phases = rng.uniform(0, 2 * np.pi, 6)
  if camera == "pan":
    speed = rng.uniform(0.04, 0.09)
    centre = centre + way * (speed * (t - 1.0))[:, None]
  elif camera == "zoom":
    scale = scale * np.exp(rng.choice([-1, 1]) * rng.uniform(0.06, 0.12) * (t - 1.0))
  elif camera == "shake":
    rates = rng.uniform(4, 12, 6)
    wobble = np.sin(t[:, None] * rates + phases)
    centre = centre + 0.012 * (wobble[:, :2] + 0.6 * wobble[:, 2:4])
    angle = angle + 0.012 * wobble[:, 4]
  elif camera == "orbit":
    centre = centre + 0.05 * np.stack([np.cos(0.8 * t + phases[0]), np.sin(0.8 * t + phases[0])], 1)
    angle = angle + 0.1 * np.sin(0.7 * t + phases[1])
  elif camera != "static":
    raise ValueError(f"camera must be one of {CAMERAS}, not {camera!r}")
  return Pose(centre, angle, scale)
