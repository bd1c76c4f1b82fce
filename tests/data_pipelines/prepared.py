"""Shards of data sets that tests make up."""

import os
import pathlib

from data_pipelines import catalogue, plan, shard_writer
from data_pipelines.records import Dataset
from data_pipelines.transcode import Settings


def write(output: str | os.PathLike, *datasets: Dataset, settings: Settings | None = None,
          n_shards: int = 2) -> None:
  """Writes the splits of one data set to a local folder."""
  (pathlib.Path(output) / plan.PARTS).mkdir(parents=True, exist_ok=True)
  splits = [plan.plan_split(dataset.name, dataset, str(output), settings or Settings(),
                            shard_bytes=1, n_shards=n_shards, time_limit=60)
            for dataset in datasets]
  for split in splits:
    for shard in split.shards:
      shard_writer.write_shard(shard)
  catalogue.write(str(output), {"dataset": datasets[0].name}, splits)
