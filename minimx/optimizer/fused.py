"""All parameters' updates as one program: the rules traced once, fused, and run as a single engine operator.

The plain twin is ``Optimizer.apply_plainly``. Scalars of a rule are constants of the program until they are seen to
vary (learning rates are taken to); then they become operands, so schedules cost nothing and constants stay exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .. import np
from ..graph.compile import compile_function
from ..graph.lower import lower

__all__ = ["FusedUpdate"]


class Fixed(NamedTuple):
    """A scalar that is part of the program."""

    value: Any


class FusedUpdate:
    """Programs by signature of the jobs, for one optimizer."""

    def __init__(self) -> None:
        self._programs: dict[Any, Any] = {}
        self._varying = {"lr"}
        self._last: list[dict[str, Any]] = []

    def run(self, rule: Callable, jobs: Sequence[Any], rescale: float, clip: float | None) -> None:
        """Applies ``rule`` to every job (see Optimizer.apply), in place. The jobs of a call are on one device."""
        if not jobs:
            return
        places, values = self.scalars(jobs, rescale)
        operands = np.array(values, dtype="float32", device=jobs[0].weight.device)
        arrays = arrays_of(jobs)
        types = tuple((a.shape, a.dtype, a.device) for a in arrays)
        key = (clip, places, types, tuple(job.master is None for job in jobs))
        if key not in self._programs:
            update = update_of(rule, jobs, places, clip)
            self._programs[key] = lower(compile_function("update", update, [operands, *arrays], False, None).forward)
        self._programs[key].run([operands, *arrays], False)

    def scalars(self, jobs: Sequence[Any], rescale: float) -> tuple[tuple, list[float]]:
        """(places, values): of every job's scalars, which are part of the program and which the operands' values."""
        scalars = [{"rescale": rescale, **job.scalars} for job in jobs]
        if len(self._last) == len(scalars):
            for old, new in zip(self._last, scalars, strict=True):
                self._varying.update(k for k, v in new.items() if old.get(k) != v)
        self._last = scalars
        values: dict[float, int] = {}
        places = tuple(tuple((k, self._place(k, v, values)) for k, v in s.items()) for s in scalars)
        return places, list(values) or [0.0]

    def _place(self, name: str, value: Any, values: dict[float, int]) -> Fixed | int:
        """Where the operand lies that holds the scalar, equal ones together; or the scalar itself."""
        if name not in self._varying or value is None or isinstance(value, bool):
            return Fixed(value)
        return values.setdefault(float(value), len(values))


def update_of(rule: Callable, jobs: Sequence[Any], places: tuple, clip: float | None) -> Callable:
    """The function that updates all jobs, to be traced. It takes the scalars that vary, and then the jobs' arrays."""

    def update(operands: Any, *arrays: Any) -> tuple:
        left = iter(arrays)
        for job, where in zip(jobs, places, strict=True):
            weight, grad = next(left), next(left)
            master = None if job.master is None else next(left)
            states = tuple(next(left) for _ in job.states)
            target = weight if master is None else master
            number = {k: p.value if isinstance(p, Fixed) else operands[p].astype(target.dtype) for k, p in where}
            rescale = number.pop("rescale")
            g = grad.astype(target.dtype, copy=False)
            g = g if isinstance(rescale, float | int) and rescale == 1 else g * rescale
            g = g if clip is None else np.clip(g, -clip, clip)
            made = rule(target, g, states, **number)
            for old, new in zip((target, *states), made, strict=True):
                old[...] = new
            if master is not None:
                weight[...] = target.astype(weight.dtype)
        return ()

    return update


def arrays_of(jobs: Sequence[Any]) -> list:
    """What the update reads and writes: of each job the weight, its gradient, its master if it has one, the states."""
    return [a for j in jobs for a in (j.weight, j.grad, *([] if j.master is None else [j.master]), *j.states)]
