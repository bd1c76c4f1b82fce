"""Shards written by the workers of a cluster, as a Beam pipeline. Needs the extra `beam`.

Beam carries the addresses of plans to its workers, and no videos: each worker reads its files and
writes its shard. So workers must see the input under the same paths and the output under the same
address, and have this package installed.
"""

import contextlib
from collections.abc import Sequence

from data_pipelines import plan, shard_writer, storage
from data_pipelines.errors import DataError
from data_pipelines.plan import ShardPlan


def write(shards: Sequence[ShardPlan], runner: str, flags: Sequence[str]) -> None:
  """Runs `write_shard` on every plan, and waits for the end.

  Args:
    runner: Beam's name of it: DirectRunner, DataflowRunner, FlinkRunner, SparkRunner, ...
    flags: for its `PipelineOptions`, such as --project=... --region=...

  Raises:
    DataError: Beam is not installed, or the pipeline failed.
  """
  try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
  except ImportError as e:
    raise DataError(f"--runner={runner} needs Apache Beam, in an environment of its own: pip "
                    "install vssl_jax[beam] (" + str(e) + ")") from e

  staged = [plan.stage(shard) for shard in shards]
  try:
    with _plain_errors(runner), beam.Pipeline(
        options=PipelineOptions([f"--runner={runner}", *flags])) as pipeline:
      # Reshuffle keeps Beam from fusing the list and the work into one worker's task.
      _ = (pipeline | beam.Create(staged) | beam.Reshuffle()
           | "write shards" >> beam.Map(shard_writer.write_shard))
  finally:
    for address in staged:
      storage.remove(address)


@contextlib.contextmanager
def _plain_errors(runner: str):
  try:
    yield
  except Exception as e:  # runners have no common class of errors
    raise DataError(f"{runner} failed, the same command continues: {type(e).__name__}: {e}") from e
