"""What all tests share: the same random numbers in every run, and nothing of one test left for the next."""

from __future__ import annotations

import hypothesis
import played
import pytest

import minimx as mx


def pytest_addoption(parser):
    """``--device gpu``: the same tests with a GPU as the current device, so that what they make lies there."""
    parser.addoption("--device", default="cpu", help="cpu, gpu, gpu:1, or played: a GPU played by the CPU")
    parser.addoption("--own-time", action="store_true", help="played streams run on threads, late")


def pytest_configure(config):
    """On a GPU an example may have to wait for a compiler."""
    if config.getoption("--device").startswith("gpu"):
        hypothesis.settings.register_profile("gpu", deadline=None)
        hypothesis.settings.load_profile("gpu")


def pytest_collection_modifyitems(config, items):
    """With a GPU as the device, tests marked ``cpu_only("why")`` are skipped."""
    if config.getoption("--device").startswith(("gpu", "played")):
        for item in items:
            if marker := item.get_closest_marker("cpu_only"):
                item.add_marker(pytest.mark.skip(reason=f"CPU only: {marker.args[0]}"))


@pytest.fixture(scope="session")
def device(request):
    """The device of ``--device``."""
    kind, _, number = request.config.getoption("--device").partition(":")
    if kind == "played":
        played.install().set_own_time(request.config.getoption("--own-time"))
        kind = "gpu"
    return mx.Device(kind, int(number or 0))


@pytest.fixture(autouse=True)
def _clean(device):
    """Seeds the stream; afterwards checks that modes are as they were and that no error waits unseen."""
    mx.random.seed(0)
    with device:
        yield
    assert not mx.autograd.is_recording() and not mx.autograd.is_training(), (
        "the test left autograd recording or training"
    )
    mx.waitall()


@pytest.fixture
def unfused():
    """Without run-time compilation: for tests of many small graphs, which would each wait for a compiler."""
    before, mx.settings.fusion = mx.settings.fusion, False
    yield
    mx.settings.fusion = before
