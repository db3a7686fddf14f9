"""Random rows: kernels that draw from the one counter-based stream, Philox4x32-10 (Salmon et al. 2011, SC'11).

Every call takes the next call number of the stream, so eager and hybridized code draw the same numbers. The kernel's
extra first operand points to {seed, call number, 0, 0}; element i of the output is drawn from the words of counter
(i / 4, iteration, call low, call high) under the key (seed low, seed high), whatever the number of threads or the
device.
"""

from __future__ import annotations

from .kernel import Ruled, decorator


class Random(Ruled):
    """Draws; its plan has ``random=True``."""

    kind = "random"
    random = True


random = decorator(Random)
