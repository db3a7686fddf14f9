"""Comparisons with PyTorch are looked at only when asked for (`make test-peers`): importing it takes seconds."""


def pytest_ignore_collect(config):
    """True, which means to pass by, in runs that leave the peers out."""
    return True if "not peers" in config.option.markexpr else None
