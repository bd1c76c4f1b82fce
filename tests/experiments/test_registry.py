"""Names in a config to modules, and what is said where there is none."""

import ml_collections
import pytest

from experiments import registry
from vssl_jax.methods import tca
from vssl_jax.types import ConfigError

METHODS, KEY = "vssl_jax.methods", "method.name"


def message(call, *args, **kwargs) -> str:
  with pytest.raises(ConfigError) as caught:
    call(*args, **kwargs)
  return str(caught.value)


def test_a_name_is_a_module_that_exports_what_is_asked_for():
  assert registry.module(METHODS, "tca", KEY, "make") is tca
  method = registry.make(METHODS, "tca", KEY, loss="info_nce", bank_size=0)
  assert callable(method.loss)


def test_a_wrong_name_gets_the_nearest():
  told = message(registry.module, METHODS, "tcca", KEY, "make")
  assert told.startswith("method.name='tcca': there is no vssl_jax/methods/tcca.py with make")
  assert "did you mean 'tca'?" in told


def test_a_name_that_is_near_nothing_gets_all():
  told = message(registry.module, "data_pipelines.datasets", "quux", "data.name", "make")
  assert "; there are: " in told
  listed = told.partition("there are: ")[2].split(", ")
  assert {"folder", "procedural"} <= set(listed)
  assert "annotations" not in listed, "a module without make() is no data set"


def test_a_module_without_the_member_is_none():
  told = message(registry.module, "data_pipelines.datasets", "annotations", "data.name", "make")
  assert "there is no data_pipelines/datasets/annotations.py with make" in told


@pytest.mark.parametrize("name", ["../tca", "tca.make", "", "os", "__init__"])
def test_only_modules_of_the_room_are_found(name):
  assert f"method.name={name!r}" in message(registry.module, METHODS, name, KEY, "make")


def test_a_wrong_argument_gets_the_nearest():
  told = message(registry.make, METHODS, "tca", KEY, bank_sise=3)
  assert "method.name='tca' takes no 'bank_sise'; did you mean 'bank_size'?" in told


def test_a_missing_argument_is_named_with_its_flag():
  told = message(registry.make, "data_pipelines.datasets", "folder", "data.name")
  assert "data.name='folder' needs root: set it, for example --config.data.root=..." in told
  # A placeholder that was never set counts as missing.
  assert "needs root" in message(
      registry.make, "data_pipelines.datasets", "folder", "data.name", root=None)


def test_a_value_that_a_module_rejects_is_a_config_error_with_its_cause(tmp_path):
  with pytest.raises(ConfigError, match=r"data\.name='procedural': .*size at least 16") as caught:
    registry.make("data_pipelines.datasets", "procedural", "data.name", size=2,
                  cache_dir=str(tmp_path))
  assert isinstance(caught.value.__cause__, ValueError)


def test_least_values():
  config = ml_collections.ConfigDict({"train": {"steps": 0, "rate": 0.5}})
  registry.check_least(config, {"train.steps": 0, "train.rate": 0.5})
  assert message(registry.check_least, config, {"train.steps": 1}) == (
      "train.steps=0 must be at least 1")
