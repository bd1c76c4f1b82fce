"""Training of SiamFC's head on the maps of a frozen trunk (cycle_contrast spec 6.1, 6.2)."""

import jax.numpy as jnp

from vssl_jax.losses import tracking as losses
from vssl_jax.models.siamfc import STRIDE, SiamFCHead
from vssl_jax.types import ConfigError, Method

LOSSES = {"focal": losses.focal, "balanced": losses.balanced}


def make(*, channels: int = 512, scale: float = 1e-3, loss: str = "focal", radius: float = 16,
         stride: int = STRIDE, **loss_args) -> Method:
  """The head as three pure functions; the trunk runs outside, and any will do.

  Args:
    channels, scale: of the head, see `models.siamfc.HEADS` for those of the ResNets.
    loss: "focal", or "balanced" as in the original SiamFC.
    radius: pixels from the target up to which cells of the response are positive.
    stride: pixels between the cells of the maps.
    loss_args: of the loss: `gamma` or `negatives`.

  A batch is `{"exemplar": [B, h, w, D], "search": [B, H, W, D]}`, the trunk's maps of pairs of
  crops with the target in the middle of both. With `"offset": [B, 2]` it is so many pixels (y, x)
  away from the middle of the search, and the positive cells with it. `aux` is empty.

  `embed` makes of `{"features": [B, h, w, D]}` both projections, `{"exemplar", "search": [B, h, w,
  channels]}`, the latter times `scale`, so that their correlation is the response.
  """
  if loss not in LOSSES:
    raise ConfigError(f"loss={loss!r} is unknown; choose one of {', '.join(LOSSES)}")
  if channels < 1 or stride < 1 or scale <= 0 or radius <= 0:
    raise ConfigError(f"channels={channels}, stride={stride}, scale={scale} and radius={radius} "
                      "must be positive")
  head = SiamFCHead(channels, scale)

  def init(key, batch):
    return head.init(key, batch["exemplar"], batch["search"])["params"], {}

  def objective(params, aux, batch, key):
    response = head.apply({"params": params}, batch["exemplar"], batch["search"])
    at = {"stride": stride, "offset": batch.get("offset", (0.0, 0.0))}
    labels = losses.label_map(response.shape[1:], positive=radius, **at)
    value = LOSSES[loss](response, labels, **loss_args).mean()
    # The target may be between cells, as the middle of a map with an even side is.
    y, x = losses.distances(response.shape[1:], **at)
    near = (y < 1)[..., :, None] & (x < 1)[..., None, :]
    at_target = jnp.where(near, response, -jnp.inf).max(axis=(1, 2))
    hit = (at_target >= response.max(axis=(1, 2))).mean()
    return value, (aux, {"loss": value, "centred": hit})

  def embed(params, aux, inputs):
    exemplar, search = head.apply({"params": params}, inputs["features"], method="project")
    return {"exemplar": exemplar, "search": scale * search}

  return Method(init, objective, embed)
