"""An embedding that is interrupted."""


class Stopping:
  """Counts its calls, and at number `at` behaves as if Ctrl-C had been pressed; 0 for never."""

  def __init__(self, embed, at: int = 0):
    self.embed, self.at, self.calls = embed, at, 0

  def __call__(self, inputs):
    self.calls += 1
    if self.calls == self.at:
      raise KeyboardInterrupt
    return self.embed(inputs)
