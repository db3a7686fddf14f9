"""All parameters' updates as one program: the rules traced once, fused, and run as a single engine operator.

The plain twin is ``Optimizer.apply_plainly``. A program serves as long as shapes, types and the sharing of scalars among
the parameters stay the same; learning rates and the like are operands, so schedules cost nothing. A scalar that is None
is part of the signature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import np
from ..graph.compile import compile_function
from ..graph.lower import lower

__all__ = ["FusedUpdate"]


class FusedUpdate:
    """Programs by signature of the jobs, for one optimizer."""

    def __init__(self) -> None:
        self._programs: dict[Any, Any] = {}

    def run(self, rule: Callable, jobs: Sequence[Any], rescale: float, clip: float | None) -> None:
        """Applies ``rule`` to every job (see Optimizer.apply), in place."""
        values: dict[float, int] = {float(rescale): 0}
        places = tuple(
            tuple((k, None if v is None else values.setdefault(float(v), len(values))) for k, v in job.scalars.items())
            for job in jobs
        )
        scalars = np.array(list(values), dtype="float32")
        arrays = [a for job in jobs for a in _arrays(job)]
        key = (clip, places, tuple((a.shape, a.dtype) for a in arrays), tuple(job.master is None for job in jobs))
        if key not in self._programs:
            self._programs[key] = self._compile(rule, jobs, places, clip, [scalars, *arrays])
        self._programs[key].run([scalars, *arrays], False)

    def _compile(self, rule: Callable, jobs: Sequence[Any], places: tuple, clip: float | None, args: list) -> Any:
        def update(scalars: Any, *arrays: Any) -> tuple:
            left = iter(arrays)
            for job, where in zip(jobs, places, strict=True):
                weight, grad = next(left), next(left)
                master = None if job.master is None else next(left)
                states = tuple(next(left) for _ in job.states)
                target = weight if master is None else master
                number = {k: None if i is None else scalars[i].astype(target.dtype) for k, i in where}
                g = grad.astype(target.dtype) * scalars[0].astype(target.dtype)
                g = g if clip is None else np.clip(g, -clip, clip)
                made = rule(target, g, states, **number)
                for old, new in zip((target, *states), made, strict=True):
                    old[...] = new
                if master is not None:
                    weight[...] = target.astype(weight.dtype)
            return ()

        return lower(compile_function("update", update, args, False, None).forward)


def _arrays(job: Any) -> list:
    return [job.weight, job.grad, *([] if job.master is None else [job.master]), *job.states]
