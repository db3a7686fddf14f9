"""All parameters' updates as one program: the rules traced once, fused, and run as a single engine operator.

The plain twin is ``Optimizer.apply_plainly``. Scalars of a rule are constants of the program until they are seen to
vary (learning rates are taken to); then they become operands, so schedules cost nothing and constants stay exact.
Rules that need norms run side by side up to where they ask, and all norms are one node. With a loss scale
(minimx/amp/scaler.py) the program also undoes it, and where a gradient is not finite it writes back what was there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from .. import np
from ..graph.compile import compile_function
from ..graph.lower import lower
from ..ndarray import _core
from ..ops.table import f

__all__ = ["FusedUpdate", "Scaling"]

MOST_ASKED = 250  # arrays that one operator looks at
VARYING = ("lr", "t", "rate", "decay", "m_factor", "v_factor", "g_factor")  # from the first step on


class Fixed(NamedTuple):
    """A scalar that is part of the program."""

    value: Any


class Places(NamedTuple):
    """Where the scalars of jobs are: of each kind (name, Fixed or the operand's number), and every job's kind."""

    kinds: tuple[tuple[tuple[str, Fixed | int], ...], ...]
    of: tuple[int, ...]


class Scaling(NamedTuple):
    """What an update has to know of the loss scale. unscaled: the gradients have been divided by it already."""

    scaler: Any  # amp.LossScaler
    unscaled: bool = False


class FusedUpdate:
    """Programs by signature of the jobs, for one optimizer."""

    def __init__(self) -> None:
        self._programs: dict[Any, Any] = {}
        self._varying = set(VARYING)
        self._last: tuple[list[dict], tuple[int, ...], float] = (
            [],
            (),
            1.0,
        )  # asked about last: numbers by kind, kinds
        self._said: tuple[Places, list[float]] = (Places((), ()), [0.0])  # and the answer
        self._jobs: Sequence[Any] = ()  # those that ran last,
        self._arrays: list[Any] = []  # their arrays without gradients,
        self._types: tuple = ()  # and what a program depends on of both

    def run(self, optimizer: Any, update: Any, grads: Sequence[Any]) -> None:
        """Applies the optimizer's rule to every job (see Optimizer.apply), in place. The jobs are on one device."""
        jobs = update.jobs
        if not jobs:
            return
        places, values = self.scalars(update, optimizer.rescale_grad)
        if jobs is not self._jobs:
            self._jobs, self._arrays = jobs, arrays_of(jobs)
            self._types = (_core.types(self._arrays), tuple([job.master is None for job in jobs]))
        arrays = [_core.numbers(values, jobs[0].weight), *grads, *self._arrays]
        key = (optimizer.clip_gradient, places, _core.types(grads), self._types, optimizer.scaling)
        known = self._programs.get(key)
        if known is None:
            compiled = compile_function("update", optimizer.update_of(update, places), arrays, False, None)
            known = self._programs[key] = lower(compiled.forward), compiled.traced.captures
        program, captures = known
        program.run(arrays + captures, False)

    def scalars(self, update: Any, rescale: float) -> tuple[Places, list[float]]:
        """(places, values): of every job's scalars, which are part of the program and which the operands' values."""
        if (update.numbers, update.of, rescale) == self._last:
            return self._said
        last, last_of, last_rescale = self._last
        of, scalars = update.of, [{"rescale": rescale} | numbers for numbers in update.numbers]
        if len(last_of) == len(of):
            for i, k in set(zip(last_of, of, strict=True)):
                before = {"rescale": last_rescale} | last[i]
                self._varying.update(name for name, v in scalars[k].items() if before.get(name) != v)
        values: dict[float, int] = {}
        placed = tuple(tuple((name, self._place(name, v, values)) for name, v in s.items()) for s in scalars)
        self._last, self._said = (update.numbers, of, rescale), (Places(placed, of), list(values) or [0.0])
        return self._said

    def _place(self, name: str, value: Any, values: dict[float, int]) -> Fixed | int:
        """Where the operand lies that holds the scalar, equal ones together; or the scalar itself."""
        if name not in self._varying or value is None or isinstance(value, bool):
            return Fixed(value)
        return values.setdefault(float(value), len(values))


def update_of(rule: Callable, jobs: Sequence[Any], places: Places, clip: float | None,
              derived: Callable[[dict], dict] = dict, scaling: Scaling | None = None) -> Callable:  # fmt: skip
    """The function that updates all jobs, to be traced. It takes the scalars that vary, the gradients, and the jobs'
    other arrays.

    derived: makes the rule's numbers of the jobs' (Optimizer.derived), where that waits for the device (scaling).
    """

    def update(operands: Any, *arrays: Any) -> tuple:
        low = _core.swap_low_type(None)  # rules know their types
        try:
            update_all(operands, given(jobs, arrays))
        finally:
            _core.swap_low_type(low)
        return ()

    def update_all(operands: Any, taken: Sequence[Given]) -> None:
        cells = [operands[i] for i in range(operands.size)]
        kinds = [{k: p.value if isinstance(p, Fixed) else cells[p] for k, p in kind} for kind in places.kinds]
        numbers = [dict(kinds[i]) for i in places.of]
        factors = [n.pop("rescale") for n in numbers]
        scaled = None if scaling is None else Scaled(scaling, jobs[0].weight.device, [x.grad for x in taken])
        if scaled is not None:
            numbers = [derived(scaled.counted(n)) for n in numbers]
        made, kept, sources = [], [], {}
        for x, number, factor in zip(taken, numbers, factors, strict=True):
            dtype = x.target.dtype
            linear = functools.partial(rescaled, factor=factor, inverse=None if scaled is None else scaled.inverse)
            g = linear(x.grad.astype(dtype if scaled is None else "float32", copy=False)).astype(dtype, copy=False)
            if clip is None:
                sources[id(g)] = (x.grad, linear)
            else:
                g = np.clip(g, -clip, clip)
            kept.append(g)  # so that its id stays its own
            typed = {k: v.astype(dtype) if hasattr(v, "astype") else v for k, v in number.items()}
            made.append(rule(x.target, g, x.states, **typed))
        for x, values in zip(taken, side_by_side(made, sources), strict=True):
            for old, new in zip((x.target, *x.states), values, strict=True):
                old[...] = new if scaled is None else np.where(scaled.finite, new, old)
            if x.master is not None:
                x.weight[...] = x.master.astype(x.weight.dtype)
        if scaled is not None:
            scaled.finish()

    return update


class Given(NamedTuple):
    """The arrays of a job, as traced code sees them."""

    weight: Any
    grad: Any
    master: Any
    states: tuple

    @property
    def target(self) -> Any:
        """What the rule updates."""
        return self.weight if self.master is None else self.master


def given(jobs: Sequence[Any], arrays: Sequence[Any]) -> list[Given]:
    """The arrays by their jobs: all gradients, and then what ``arrays_of`` gives."""
    left = iter(arrays[len(jobs) :])
    found = []
    for job, grad in zip(jobs, arrays, strict=False):
        weight = next(left)
        master = None if job.master is None else next(left)
        found.append(Given(weight, grad, master, tuple(next(left) for _ in job.states)))
    return found


class Scaled:
    """An update under a loss scale, in traced code: whether gradients are ``finite``, and the scale's ``inverse``.

    The inverse is 0 where they are not. So all that is made of it waits for ``finite``, and is one kernel with what
    that masks.
    """

    def __init__(self, scaling: Scaling, device: Any, grads: Sequence[Any]) -> None:
        self.scaler, self.state = scaling.scaler, scaling.scaler.on(device)
        self.finite = all_finite(grads)
        self.inverse = np.where(self.finite, 1.0 if scaling.unscaled else 1 / self.state.scale, 0.0)

    def counted(self, numbers: dict[str, Any]) -> dict[str, Any]:
        """The numbers with updates that were skipped not counted in ``t``."""
        return numbers | {"t": numbers["t"] - self.state.skipped} if "t" in numbers else numbers

    def finish(self) -> None:
        """Writes the scaler's new state."""
        for old, new in zip(self.state, self.scaler.advance(self.state, self.finite), strict=True):
            old[...] = new


def rescaled(x: Any, factor: Any, inverse: Any) -> Any:
    """x times a number, and times what undoes the loss scale."""
    x = x if isinstance(factor, float | int) and factor == 1 else x * factor
    return x if inverse is None else x * inverse


Sources = Mapping[int, tuple[Any, Callable[[Any], Any]]]


def side_by_side(made: Sequence[tuple | Generator], sources: Sources = MappingProxyType({})) -> list[tuple]:
    """What rules return. Those that are generators yield arrays and are sent the norm of each, in the array's shape.

    sources: by the ``id`` of an array, another and the linear function of it that it is. It then need not be stored for
    the norm, which is that of the other.
    """
    results: list[Any] = list(made)
    replies: dict[int, Any] = {i: None for i, r in enumerate(results) if isinstance(r, Generator)}
    while replies:
        asked = {}
        for i, reply in replies.items():
            try:
                asked[i] = made[i].send(reply)  # type: ignore[union-attr]
            except StopIteration as end:
                results[i] = end.value
        norms = iter(norms_of([x for xs in asked.values() for x in xs], sources))
        replies = {i: tuple(next(norms) for _ in xs) for i, xs in asked.items()}
    return results


def norms_of(arrays: Sequence[Any], sources: Sources) -> list:
    """The Euclidean norm of each array, seen in the array's shape, so that what is computed of it fuses with it."""
    found = []
    for some in asked_at_once([sources.get(id(x), (x, None)) for x in arrays]):
        norms = np.sqrt(f.multi_sum_squares([x for x, _ in some]))
        for i, (x, linear) in enumerate(some):
            wide = np.broadcast_to(norms[i], x.shape)
            found.append(wide if linear is None else np.abs(linear(wide)))
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
    """What the update reads and writes beside gradients: of each job the weight, its master if any, the states."""
    return [a for j in jobs for a in (j.weight, *([] if j.master is None else [j.master]), *j.states)]
