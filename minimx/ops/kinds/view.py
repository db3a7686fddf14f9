"""View rows: the result shares the operand's memory; the rule answers with strides and an offset in elements.

Where no strides can say it (reshape of a transposed array), ``Plan.contiguous`` asks for a copy first. Nothing runs
here: the runtime makes the view while it calls the operator.
"""

from __future__ import annotations

from .kernel import Ruled, decorator


class View(Ruled):
    """Another look at the same elements."""

    kind = "view"


view = decorator(View)
