"""Training of SiamFC's head on the maps of a frozen trunk (cycle_contrast spec 6.1, 6.2)."""

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
    radius: pixels from the centre up to which cells of the response are positive.
    stride: pixels between the cells of the maps.
    loss_args: of the loss: `gamma` or `negatives`.

  A batch is `{"exemplar": [B, h, w, D], "search": [B, H, W, D]}`, the trunk's maps of pairs of
  crops with the target in the middle of both. `aux` is empty.

  `embed` makes of `{"features": [B, h, w, D]}` both projections, `{"exemplar", "search": [B, h, w,
  channels]}`, the latter times `scale`, so that their correlation is the response.
  """
  if loss not in LOSSES:
    raise ConfigError(f"loss={loss!r} is unknown; choose one of {', '.join(LOSSES)}")
  if channels < 1 or stride < 1 or scale <= 0:
    raise ConfigError(f"channels={channels}, stride={stride} and scale={scale} must be positive")
  head = SiamFCHead(channels, scale)

  def init(key, batch):
    return head.init(key, batch["exemplar"], batch["search"])["params"], {}

  def objective(params, aux, batch, key):
    response = head.apply({"params": params}, batch["exemplar"], batch["search"])
    labels = losses.label_map(response.shape[1:], stride=stride, positive=radius)
    value = LOSSES[loss](response, labels, **loss_args).mean()
    # The middle of a map with an even side is between cells.
    h, w = response.shape[1:]
    middle = response[:, (h - 1) // 2:h // 2 + 1, (w - 1) // 2:w // 2 + 1].max(axis=(1, 2))
    hit = (middle >= response.max(axis=(1, 2))).mean()
    return value, (aux, {"loss": value, "centred": hit})

  def embed(params, aux, inputs):
    exemplar, search = head.apply({"params": params}, inputs["features"], method="project")
    return {"exemplar": exemplar, "search": scale * search}

  return Method(init, objective, embed)
