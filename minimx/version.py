"""The version, spelled here only: the build reads it from this file and `minimx.__version__` is this name."""

__version__ = "0.1.0"
