"""Run-time compilation: kernels written for a group of operators, compiled in the background, kept on disk.

``fused_kernel`` makes the kernel of a "fused" node of a graph (minimx/graph/passes/fusion.py makes those nodes);
``report()`` says what was compiled and why something was not, ``source_of(name)`` is a kernel's text, and ``wait()``
waits until all that is asked for is ready.
Read group.py (what is fused), emit_host.py (the text), compile.py, cache.py; for GPUs: cuda/. Essay: docs/fusion.md.
"""

from .compile import report, source_of, wait
from .kernel import fused_kernel

__all__ = ["fused_kernel", "report", "source_of", "wait"]
