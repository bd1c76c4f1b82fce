"""The message about an incomplete data set has its numbers, and a flag turns it into a warning."""

import logging

import pytest

from data_pipelines.datasets import completeness
from data_pipelines.errors import DataError


def test_a_whole_data_set_passes(caplog):
  completeness.check("ucf101", "all", {"videos": 13320, "classes": 101}, {"videos": 13320}, (),
                     False)
  completeness.check("folder", "all", {"videos": 3}, {}, (), False)
  completeness.check("vcdb", "core", {"videos": 528}, {"videos": 528, "pairs": 9}, (), False)
  assert not caplog.records


def test_missing_files_are_counted_and_named():
  missing = [f"v{i:04d}" for i in range(9236)][::-1]
  with pytest.raises(DataError) as error:
    completeness.check("kinetics400", "train", {"videos": 231200}, {"videos": 240436}, missing,
                       False)
  assert str(error.value) == (
    "kinetics400 train: 240,436 videos expected, 231,200 found; 9,236 listed videos are missing "
    "(first: v0000, v0001, v0002, ...); pass allow_missing=True (--allow_missing) to go on without "
    "them")
  with pytest.raises(DataError, match=r"1 listed video is missing \(first: a\);"):
    completeness.check("x", "y", {"videos": 1}, {}, ["a"], False)


def test_too_few_and_too_many_without_a_list():
  with pytest.raises(DataError, match=r"13,320 videos expected, 7 found; pass allow_missing"):
    completeness.check("ucf101", "all", {"videos": 7}, {"videos": 13320}, (), False)
  with pytest.raises(DataError, match=r"3 videos expected, 4 found, more than the data set has"):
    completeness.check("s", "all", {"videos": 4}, {"videos": 3}, (), False)


def test_the_flag_makes_it_one_warning(caplog):
  with caplog.at_level(logging.WARNING):
    completeness.check("ucf101", "all", {"videos": 7, "classes": 2},
                       {"videos": 13320, "classes": 101}, ["v_a"], True)
  (record,) = caplog.records
  assert record.getMessage() == (
    "ucf101 all: 13,320 videos expected, 7 found; 101 classes expected, 2 found; 1 listed video is "
    "missing (first: v_a); going on with what is there")
