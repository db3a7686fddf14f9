"""Programs of their own for faults that a process does not survive, and for its beginning and end."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path


def run(program: str | Path, timeout: float = 120, **environment: str) -> str:
    """Runs Python code or a file of it in an interpreter of its own; returns what it printed. It must exit with 0."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore", **environment}
    what = [str(program)] if isinstance(program, Path) else ["-c", textwrap.dedent(program)]
    command = [sys.executable, *what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=variables)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout
