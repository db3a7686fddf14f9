"""The settings: defaults, environment, and what a wrong value says. Not here: what each setting does."""

import os
from pathlib import Path

import pytest

from minimx.config import Settings
from minimx.errors import ArgumentError, NameNotFound


def test_defaults():
    values = Settings({})
    assert values.num_threads == len(os.sched_getaffinity(0))
    assert values.fusion is True and values.engine == "threaded"


def test_the_environment_is_read_with_types():
    values = Settings({"MINIMX_NUM_THREADS": "3", "MINIMX_FUSION": "Off", "MINIMX_CACHE_DIR": "/tmp/kernels"})
    assert values.num_threads == 3 and values.fusion is False and values.cache_dir == Path("/tmp/kernels")


@pytest.mark.parametrize("variable, text", [("NUM_THREADS", "0"), ("NUM_THREADS", "two"), ("FUSION", "maybe")])
def test_a_wrong_value_names_its_variable(variable, text):
    with pytest.raises(ArgumentError, match=f"MINIMX_{variable}: expected .* got '{text}'"):
        Settings({f"MINIMX_{variable}": text})


def test_setting_checks_name_and_value():
    values = Settings({})
    values.fusion = False
    values.num_threads = 2
    assert values.fusion is False and values.num_threads == 2
    with pytest.raises(ArgumentError, match="settings.engine: expected threaded or naive, got 'fast'"):
        values.engine = "fast"
    with pytest.raises(NameNotFound, match="fusoin"):
        values.fusoin = True
