"""Host rows: a body over ``xp`` (NumPy on the CPU, CuPy on a GPU), for the long tail that nobody needs a kernel for.

The output types of a signature are found by running the body once on ones of that shape, or given by ``infer``. A
``dynamic`` row's shapes depend on the data (nonzero, unique): it runs at once, and cannot be traced.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ...errors import NotSupported
from ..dtypes import BY_NAME, is_float
from ..table import Plan, Row, Spec
from .kernel import Ruled

# Types that the bodies compute in where NumPy's library functions lack the operand's own.
NUMPY_TYPE = {"bfloat16": "float32", "float16": "float32"}


class Host(Ruled):
    """Runs ``body(xp, *arrays, **attrs)``, as a callback that the engine orders like any kernel."""

    kind = "host"

    def __init__(
        self,
        name: str,
        body: Callable[..., Any],
        grad: Callable | None,
        row: Row,
        infer: Callable | None,
        dynamic: bool,
    ):
        parameters = list(inspect.signature(body).parameters.values())
        if not parameters or parameters[0].name != "xp":
            raise TypeError(f"host row {name}: expected a body whose first parameter is xp, got {parameters}. Add it.")
        row.doc = row.doc or (body.__doc__ or "").strip()
        super().__init__(name, _without_xp(body), grad, row)
        self.body, self.infer, self.dynamic = body, infer, dynamic

    def plan(self, ins: Sequence[Spec | None], attrs: dict[str, Any]) -> Plan:
        """Kernel "host": the runtime calls ``run`` on NumPy views of the operands (minimx/ndarray.py,
        ``_host_call``)."""
        casts = ["" if s is None else NUMPY_TYPE.get(s.dtype, s.dtype) for s in ins]
        outs = self.infer(*self.grouped(ins), **attrs) if self.infer else self._try_out(ins, casts, attrs)
        return Plan(outs, "host", {"name": self.name}, casts, contiguous=True)

    def backward(
        self, gs: Sequence, ins: Sequence, outs: Sequence, attrs: dict[str, Any], needs: Sequence[bool]
    ) -> list:
        if self.grad is None and any(is_float(str(y.dtype)) for y in outs):
            raise NotSupported(self.name, "an operator with a gradient while recording", "one without",
                               "Call it on x.detach() or inside autograd.pause()")  # fmt: skip
        return super().backward(gs, ins, outs, attrs, needs)

    def _try_out(self, ins: Sequence[Spec | None], casts: Sequence[str], attrs: dict[str, Any]) -> list:
        import numpy

        arrays = [None if s is None else _harmless(numpy, s.shape, c) for s, c in zip(ins, casts, strict=True)]
        return [(a.shape, result_type(a.dtype.name)) for a in self.run(numpy, arrays, attrs)]

    def run(self, xp: Any, arrays: Sequence, attrs: dict[str, Any]) -> list:
        """The outputs, as arrays of ``xp`` of the plan's types."""
        made = self.body(xp, *self.grouped(arrays), **attrs)
        results = made if isinstance(made, (tuple, list)) else (made,)
        return [xp.asarray(r, dtype=result_type(xp.asarray(r).dtype.name)) for r in results]


def _harmless(numpy: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """Ones, plus ones on the diagonal of the last two axes: square matrices among them can be inverted and factored."""
    a = numpy.ones(shape, dtype)
    if a.ndim >= 2 and dtype != "bool":
        a += numpy.eye(shape[-2], shape[-1], dtype=dtype)
    return a


def result_type(name: str) -> str:
    """The type of the table for what NumPy returned: unsigned and platform integers become int64."""
    return name if name in BY_NAME else "float32" if name.startswith("float") else "int64"


def _without_xp(body: Callable[..., Any]) -> Callable[..., Any]:
    def rule(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    parameters = list(inspect.signature(body).parameters.values())[1:]
    rule.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return rule


def host(
    *, name: str = "", grad: Callable | None = None, infer: Callable | None = None, dynamic: bool = False, **row: Any
) -> Callable[[Callable[..., Any]], Host]:
    """Adds a host row; the decorated function ``body(xp, operands..., /, attributes...)`` is what runs."""
    return lambda body: Host(name or body.__name__, body, grad, Row(**row), infer, dynamic)
