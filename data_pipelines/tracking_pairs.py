"""Which pictures of a tracking sequence a tracker is trained with (CycleContrast, section 6.2).

`sample.pair(times, (1, 99), among=usable(...), rng=rng)` draws a pair of them, and `Pairs` reads
them:

    clips.batches(clips.training(got10k.read(root), Pairs(), seed=0), batch=8)
"""

import dataclasses

import numpy as np

from data_pipelines import sample, tracking_crops
from data_pipelines.errors import VideoError
from data_pipelines.media import open_media
from data_pipelines.records import Record

MIN_AREA = 20
SIDES = (20, 500)  # pixels
SHARES = (0.01, 0.5)  # of the picture's side
ASPECTS = (0.25, 4)  # width / height


def usable(boxes: np.ndarray, image_size: tuple[int, int],
           cover: np.ndarray | None = None) -> np.ndarray:
  """Numbers of the pictures whose boxes are neither tiny, huge, oblong nor hidden.

  Args:
    boxes: [T, 4] x, y, width, height in pixels; rows with NaN are not usable.
    image_size: (height, width) of the pictures.
    cover: [T], 0 (hidden) to 8; kept is what exceeds 1 and 0.3 of the sequence's largest. None
      where it isn't known.

  Returns:
    int64 [K], ascending.
  """
  sides = np.asarray(boxes, np.float64)[:, 2:]
  shares = sides / (image_size[1], image_size[0])
  with np.errstate(divide="ignore", invalid="ignore"):  # boxes without height
    aspect = sides[:, 0] / sides[:, 1]
  kept = (sides.prod(1) >= MIN_AREA) & _within(aspect, ASPECTS)
  kept &= _within(sides, SIDES).all(1) & _within(shares, SHARES).all(1)
  if cover is not None and len(cover):
    kept &= cover > max(1.0, 0.3 * np.max(cover))
  return np.flatnonzero(kept)


def _within(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
  return (values >= limits[0]) & (values <= limits[1])


@dataclasses.dataclass(frozen=True)
class Pairs:
  """`(record, rng) -> {"exemplar", "search"}`: two crops of one target at two times.

  `exemplar` is uint8 [120, 120, 3], of the earlier picture, and `search` uint8 [239, 239, 3]. Both
  have the target in the middle, but for a random shift of up to 4 pixels.

  With noise the search is cut around a box beside the target's, as a tracker does that goes by its
  last guess, and "offset", float32 [2], tells how many pixels (y, x) from the middle the target is,
  but for that shift. The exemplar, whose box a tracker is given, stays.

  Attributes:
    exemplar: pixels a side of the exemplar.
    gap: least and largest number of pictures from one to the other.
    shift, zoom: scales of Laplace noise, see `tracking_crops.jittered`; without any if both are 0.
  """

  exemplar: int = tracking_crops.EXEMPLAR
  gap: tuple[int, int] = (1, 99)
  shift: float = 0.0
  zoom: float = 0.0

  def __call__(self, record: Record, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Raises `VideoError` where there are no two usable pictures, so that another one is read."""
    boxes = record.truth.get("boxes")
    if boxes is None or not len(boxes):
      raise VideoError(record.id, "has no boxes")
    with open_media(record) as media:
      first, stop = sample.part(media.times, record.start, record.end)
      if stop - first != len(boxes):
        raise VideoError(record.id, f"has {len(boxes)} boxes for {stop - first} picture(s)")
      kept = usable(boxes, (media.height, media.width), record.truth.get("cover"))
      if len(kept) < 2:
        raise VideoError(record.id, f"has {len(kept)} usable picture(s) of {len(boxes)}, not two")
      times = media.times[first:stop] - media.times[first]
      chosen = sample.pair(times, self.gap, among=kept, rng=rng)
      frames = media.frames(first + chosen)
    first, target = boxes[chosen]
    noisy = self.shift > 0 or self.zoom > 0
    box = tracking_crops.jittered(target, rng, self.shift, self.zoom) if noisy else target
    crops = [tracking_crops.square(frame, box, rng, exemplar=self.exemplar)
             for frame, box in zip(frames, (first, box), strict=True)]
    pair = {"exemplar": tracking_crops.augmented(crops[0], rng, self.exemplar),
            "search": tracking_crops.augmented(crops[1], rng)}
    if noisy:
      pair["offset"] = tracking_crops.offset(target, box, exemplar=self.exemplar)
    return pair
