"""Tests that need an NVIDIA GPU (``make test-gpu``). A package, so that files may be called as those one folder up."""
