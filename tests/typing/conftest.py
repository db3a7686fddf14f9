"""The files here are for mypy (tests/test_stubs.py): pytest must not import them."""

collect_ignore_glob = ["*.py"]
