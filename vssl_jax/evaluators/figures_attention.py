"""What a model attends to: the attention that each frame receives, over the frames themselves."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vssl_jax.evaluators.embedded import SHORTEST, Embed, power_of_two
from vssl_jax.evaluators.figures import FAINT, INK

SHOWN, FILLER, UNIFORM = "#0072B2", "#E69F00", "#22262b"
_WIDTH, _LEFT, _CELL, _BARS, _GAP = 12.6, 1.75, 0.62, 0.85, 0.5  # inches
MOST_FRAMES = 17  # a row; of longer videos, neighbours are put together


def received(embed: Embed, descriptors, ids: Sequence[str]) -> dict[str, np.ndarray] | None:
  """Id -> attention received [T], summing to 1; None where the model doesn't tell any.

  `embed` as in the evaluator, with "attention" [B, T] where there is some; `descriptors`: id ->
  [T, D]. Videos without frames are left out.
  """
  found = {}
  for name in ids:
    x = descriptors[name] if name in descriptors else ()
    if not len(x):
      continue
    padded = np.zeros((1, power_of_two(len(x), SHORTEST), x.shape[1]), np.float32)
    padded[0, :len(x)] = x
    out = embed({"x": padded, "length": np.array([len(x)], np.int32)})
    if "attention" not in out:
      return None
    found[name] = np.asarray(out["attention"][0, :len(x)], np.float64)
  return found


def filler_share(attention: Mapping[str, np.ndarray],
                 filler: Mapping[str, np.ndarray]) -> tuple[float, float]:
  """The share of attention that filler frames get, and their share of the frames, over videos.

  `attention`: id -> [T]; `filler`: id -> [T] bool. Means over the videos in both.
  """
  both = [i for i in attention if i in filler]
  return (float(np.mean([attention[i][filler[i]].sum() for i in both])),
          float(np.mean([filler[i].mean() for i in both])))


def attention_figure(attention: Mapping[str, np.ndarray], strips: Mapping[str, np.ndarray], *,
                     filler: Mapping[str, np.ndarray] | None = None, about: str = "",
                     title: str | None = None) -> Figure:
  """A row a video: its frames, and over each how much attention it receives.

  Args:
    attention: id -> [T], summing to 1: mean over heads and valid queries of the attention
      probabilities of the last layer (tca spec 12.3).
    strips: id -> uint8 [T, H, W, 3], the same frames.
    filler: id -> [T] bool, where it is known which frames show nothing of the event.
    about: a sentence for the caption, for example what filler gets in all videos.
    title: over the whole; default says what is seen.

  Raises:
    ValueError: there is no video, or a strip isn't as long as its attention.
  """
  if not attention:
    raise ValueError("there is no video to draw")
  for name, a in attention.items():
    if len(strips[name]) != len(a):
      raise ValueError(f"{name!r} has attention for {len(a)} frames and {len(strips[name])} frames")
  row, top = _BARS + _CELL + _GAP, 1.65
  page = Figure(figsize=(_WIDTH, top + len(attention) * row), facecolor="white")
  height = page.get_figheight()
  text = dict(va="center", color=FAINT, size=10.5)
  page.text(0.3 / _WIDTH, 1 - 0.35 / height, title or "Which frames does the model attend to?",
            **text | dict(size=17, weight="bold", color=INK))
  page.text(0.3 / _WIDTH, 1 - 0.7 / height, "A bar tells how much more or less attention a frame "
            "receives, mean over heads and querying frames, than if all received the same.", **text)
  page.text(0.3 / _WIDTH, 1 - 0.95 / height, about, **text)
  kinds = [(SHOWN, "frame")] if not filler else [
      (SHOWN, "shows the event"), (FILLER, "filler, which recurs in unrelated videos")]
  handles = [Patch(facecolor=c, label=words, hatch="///" if c == FILLER else None,
                   edgecolor="white") for c, words in kinds]
  page.legend(handles=handles, loc="center left", ncols=2, frameon=False, fontsize=10.5,
              bbox_to_anchor=(_LEFT / _WIDTH - 0.008, 1 - 1.27 / height))
  most = max(0.01, *(float(np.abs(a * len(a) - 1).max()) for a in attention.values()))
  for i, (name, values) in enumerate(attention.items()):
    _draw_row(page, top + i * row, name, values, strips[name], (filler or {}).get(name), most)
  return page


def _draw_row(page: Figure, y: float, name: str, values, strip, filler, most: float) -> None:
  """Bars up to +- `most`, the same for all rows, and below them frames."""
  pieces = np.array_split(np.arange(len(values)), min(len(values), MOST_FRAMES))
  relative = [float(np.mean(values[p]) * len(values)) - 1 for p in pieces]
  n, height = len(pieces), page.get_figheight()

  def axes(top: float, tall: float):
    return page.add_axes((_LEFT / _WIDTH, 1 - (top + tall) / height, n * _CELL / _WIDTH,
                          tall / height))

  bars, frames = axes(y, _BARS), axes(y + _BARS + 0.04, _CELL)
  for i, value in enumerate(relative):
    other = filler is not None and np.mean(filler[pieces[i]]) > 0.5
    bars.bar(i, value, width=0.86, color=FILLER if other else SHOWN, edgecolor="white",
             linewidth=0, hatch="///" if other else None)
    image = strip[pieces[i][len(pieces[i]) // 2]]
    frames.imshow(image, extent=(i - 0.47, i + 0.47, 0, 1), aspect="auto")
  bars.axhline(0, color=UNIFORM, linewidth=1)
  ticks = [-most, 0, most] if most < 1 else [-1, 0, most]  # nothing loses more than all of it
  bars.set(xlim=(-0.5, n - 0.5), ylim=(1.12 * ticks[0], 1.12 * most), xticks=[])
  bars.set_yticks(ticks, [f"{100 * v:+.{0 if most >= 0.1 else 1}f}%" if v else "equal"
                          for v in ticks])
  bars.tick_params(colors=FAINT, labelsize=8, length=2)
  bars.spines[["top", "right", "bottom"]].set_visible(False)
  frames.set(xlim=(-0.5, n - 0.5), ylim=(0, 1))
  frames.set_axis_off()
  label = name if len(name) < 17 else f"{name[:7]}…{name[-8:]}"
  page.text(0.3 / _WIDTH, 1 - (y + _BARS * 0.55) / height, label, size=10.5, weight="bold",
            color=INK, va="center")
  page.text(0.3 / _WIDTH, 1 - (y + _BARS * 0.55 + 0.24) / height, f"{len(values)} frames", size=9,
            color=FAINT, va="center")
