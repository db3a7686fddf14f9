"""All parameters' updates as one program: the rules traced once, fused, and run as a single engine operator.

The plain twin is ``Optimizer.apply_plainly``. Scalars of a rule are constants of the program until they are seen to
vary (learning rates are taken to); then they become operands, so schedules cost nothing and constants stay exact.
Rules that need norms run side by side up to where they ask, and all norms are one node. With a loss scale
(minimx/amp/scaler.py) the program also undoes it, and where a gradient is not finite it writes back what was there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

from .. import np
from ..graph.compile import compile_function
from ..graph.lower import lower
from ..ndarray import _core
from ..ops.table import f

__all__ = ["FusedUpdate", "Scaling"]

MOST_ASKED = 256  # arrays that one operator looks at
VARYING = ("lr", "t", "correction", "m_factor", "v_factor", "g_factor")  # from the first step on


class Fixed(NamedTuple):
    """A scalar that is part of the program."""

    value: Any


class Scaling(NamedTuple):
    """What an update has to know of the loss scale. unscaled: the gradients have been divided by it already."""

    scaler: Any  # amp.LossScaler
    unscaled: bool = False


class FusedUpdate:
    """Programs by signature of the jobs, for one optimizer."""

    def __init__(self) -> None:
        self._programs: dict[Any, Any] = {}
        self._varying = set(VARYING)
        self._last: list[dict[str, Any]] = []

    def run(self, optimizer: Any, jobs: Sequence[Any]) -> None:
        """Applies the optimizer's rule to every job (see Optimizer.apply), in place. The jobs are on one device."""
        if not jobs:
            return
        places, values = self.scalars(jobs, optimizer.rescale_grad)
        operands = np.array(values, dtype="float32", device=jobs[0].weight.device)
        arrays = arrays_of(jobs)
        types = tuple((a.shape, a.dtype, a.device) for a in arrays)
        key = (optimizer.clip_gradient, places, types, tuple(job.master is None for job in jobs), optimizer.scaling)
        if key not in self._programs:
            compiled = compile_function("update", optimizer.update_of(jobs, places), [operands, *arrays], False, None)
            self._programs[key] = lower(compiled.forward), compiled.traced.captures
        program, captures = self._programs[key]
        program.run([operands, *arrays, *captures], False)

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


def update_of(rule: Callable, jobs: Sequence[Any], places: tuple, clip: float | None,
              derived: Callable[[dict], dict] = dict, scaling: Scaling | None = None) -> Callable:  # fmt: skip
    """The function that updates all jobs, to be traced. It takes the scalars that vary, and then the jobs' arrays.

    derived: makes the rule's numbers of the jobs' (Optimizer.derived), where that waits for the device (scaling).
    """

    def update(operands: Any, *arrays: Any) -> tuple:
        low = _core.swap_low_type(None)  # rules know their types
        try:
            update_all(operands, arrays)
        finally:
            _core.swap_low_type(low)
        return ()

    def update_all(operands: Any, arrays: Sequence[Any]) -> None:
        left = iter(arrays)
        given = []  # of each job: (weight, grad, master, states)
        for job in jobs:
            weight, grad = next(left), next(left)
            master = None if job.master is None else next(left)
            given.append((weight, grad, master, tuple(next(left) for _ in job.states)))
        state = finite = None
        if scaling is not None:
            state, finite = scaling.scaler.on(jobs[0].weight.device), all_finite([grad for _, grad, _, _ in given])
        made = []
        for (weight, grad, master, states), where in zip(given, places, strict=True):
            target = weight if master is None else master
            number = {k: p.value if isinstance(p, Fixed) else operands[p] for k, p in where}
            rescale = number.pop("rescale")
            if scaling is not None and state is not None:
                rescale = rescale if scaling.unscaled else rescale / state.scale
                number = derived(number | {"t": number["t"] - state.skipped} if "t" in number else number)
            number = {k: v.astype(target.dtype) if hasattr(v, "astype") else v for k, v in number.items()}
            g = grad.astype(target.dtype if finite is None else "float32", copy=False)
            g = g if isinstance(rescale, float | int) and rescale == 1 else g * rescale
            g = g.astype(target.dtype, copy=False)
            g = g if clip is None else np.clip(g, -clip, clip)
            made.append(rule(target, g, states, **number))
        for (weight, _, master, states), values in zip(given, side_by_side(made), strict=True):
            target = weight if master is None else master
            for old, new in zip((target, *states), values, strict=True):
                old[...] = new if finite is None else np.where(finite, new, old)
            if master is not None:
                weight[...] = target.astype(weight.dtype)
        if scaling is not None and state is not None:
            for old, new in zip(state, scaling.scaler.advance(state, finite), strict=True):
                old[...] = new

    return update


def side_by_side(made: Sequence[tuple | Generator]) -> list[tuple]:
    """What rules return. Those that are generators yield arrays and are sent the norm of each, in the array's shape."""
    results: list[Any] = list(made)
    waiting = {i: None for i, r in enumerate(results) if isinstance(r, Generator)}
    replies: dict[int, Any] = dict(waiting)
    while replies:
        asked = {}
        for i, reply in replies.items():
            try:
                asked[i] = made[i].send(reply)  # type: ignore[union-attr]
            except StopIteration as end:
                results[i] = end.value
        norms = iter(norms_of([x for xs in asked.values() for x in xs]))
        replies = {i: tuple(next(norms) for _ in xs) for i, xs in asked.items()}
    return results


def norms_of(arrays: Sequence[Any]) -> list:
    """The Euclidean norm of each array, seen in the array's shape, so that what is computed of it fuses with it."""
    found = []
    for some in asked_at_once(arrays):
        norms = np.sqrt(f.multi_sum_squares(some))
        found += [np.broadcast_to(norms[i], x.shape) for i, x in enumerate(some)]
    return found


def all_finite(arrays: Sequence[Any]) -> Any:
    """Whether all elements of all arrays are finite: a bool array of shape ()."""
    first, *rest = [f.multi_all_finite(some) for some in asked_at_once(arrays)]
    for more in rest:
        first = np.logical_and(first, more)
    return first


def asked_at_once(arrays: Sequence[Any]) -> list[list]:
    return [list(arrays[i : i + MOST_ASKED]) for i in range(0, len(arrays), MOST_ASKED)]


def arrays_of(jobs: Sequence[Any]) -> list:
    """What the update reads and writes: of each job the weight, its gradient, its master if it has one, the states."""
    return [a for j in jobs for a in (j.weight, j.grad, *([] if j.master is None else [j.master]), *j.states)]
