"""What goes wrong with data, in words for the person who has to mend it."""


class DataError(Exception):
  """A problem with the user's data; the message names the file or key and says what to do."""


class VideoError(DataError):
  """One video can't be read.

  Attributes:
    name: the file's path, or a name for bytes in memory.
    reason: one short clause, for example "no video stream".
  """

  def __init__(self, name: object, reason: str):
    super().__init__(f"{name}: {reason}")
    self.name = str(name)
    self.reason = reason

  def __reduce__(self):  # two arguments, so that it survives a process boundary
    return type(self), (self.name, self.reason)
