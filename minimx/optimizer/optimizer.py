"""Optimizer: the base of all update rules, and the one place where weights and states are written.

A rule is a pure function of arrays and numbers, ``rule(w, g, states, lr=..., wd=..., ...) -> (new w, *new states)``;
the base prepares gradients, counts updates, asks the schedule, keeps float32 masters of 16-bit weights, and assigns in
place. What runs the rules one parameter at a time (``apply``) can therefore be replaced by one fused launch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

from .. import autograd, np
from ..errors import ArgumentError, ArgumentTypeError, NameNotFound, NotSupported
from ..ndarray import _core
from .fused import FusedUpdate, Places, Scaling, all_finite, side_by_side, update_of

__all__ = ["Optimizer", "Job", "register", "create"]

_REGISTRY: dict[str, type[Optimizer]] = {}


class Job(NamedTuple):
    """One parameter's update, but for its gradient and its numbers."""

    weight: Any
    master: Any  # float32 copy of a 16-bit weight, which is then the one updated; or None
    states: tuple[Any, ...]


@dataclass(slots=True)
class Jobs:
    """One update of some parameters: what ``apply`` gets.

    jobs: the same list as last time, if it is of the same parameters. numbers: keyword arguments of the rule, those
    that several jobs share once. of: which of them a job has.
    """

    jobs: list[Job]
    numbers: list[dict[str, Any]]
    of: tuple[int, ...]


class Given(NamedTuple):
    """Parameters that are updated together, and what of that stays the same from step to step."""

    indices: tuple
    weights: Any
    states: Any
    masters: bool
    jobs: list[Job]
    parameters: tuple | None  # of gluon, where all are
    pick: Callable[[Mapping], tuple]  # of a dict by index, what it has of each


def picker(keys: tuple) -> Callable[[Mapping], tuple]:
    """The function that gives a dict's values for these keys; it raises KeyError."""
    return itemgetter(*keys) if len(keys) > 1 else lambda values: tuple([values[k] for k in keys])


def register(cls: type[Optimizer]) -> type[Optimizer]:
    """Class decorator: makes an optimizer known to ``create`` under its name in lower case."""
    _REGISTRY[cls.__name__.lower()] = cls
    return cls


def create(name: str | Optimizer, **kwargs: Any) -> Optimizer:
    """An optimizer by name, or the one given. Raises NameNotFound.

    >>> import minimx as mx
    >>> mx.optimizer.create("sgd", learning_rate=0.5, momentum=0.9).learning_rate
    0.5
    """
    if isinstance(name, Optimizer):
        return name
    if name.lower() not in _REGISTRY:
        raise NameNotFound("optimizer.create", f"one of {', '.join(sorted(_REGISTRY))}", repr(name), "Fix the name")
    return _REGISTRY[name.lower()](**kwargs)


def arguments_of(cls: type) -> list[str]:
    """The names that an optimizer's constructor takes, its own before those of its bases."""
    signatures = (inspect.signature(vars(base)["__init__"]) for base in cls.__mro__[:-1] if "__init__" in vars(base))
    named = (p.name for s in signatures for p in s.parameters.values() if p.kind is not p.VAR_KEYWORD)
    return [name for name in dict.fromkeys(named) if name != "self"]


class Optimizer:
    """Base of all optimizers.

    learning_rate: or that of ``lr_scheduler``, which is called with the number of updates done. wd: weight decay.
    rescale_grad: factor on gradients, such as 1 / batch size. clip_gradient: bound on |rescaled gradient|, or None.
    multi_precision: keep a float32 master of 16-bit weights. param_dict: Parameters by index, for their lr_mult and
    wd_mult. param_idx2name: names by index. begin_num_update: where counting begins. Others of Gluon's arguments
    (aggregate_num, use_fused_step, lazy_update) are accepted and mean nothing here.

    A subclass defines ``rule`` and names its states; one that computes ``scalars`` may add arguments of its own.
    """

    opt_registry = _REGISTRY
    usual_lr = 0.01  # when neither a rate nor a schedule is given

    def __init__(
        self,
        rescale_grad: float = 1.0,
        param_idx2name: Mapping[int, str] | None = None,
        wd: float = 0.0,
        clip_gradient: float | None = None,
        learning_rate: float | None = None,
        lr_scheduler: Any = None,
        begin_num_update: int = 0,
        multi_precision: bool = False,
        param_dict: Mapping[int, Any] | None = None,
        aggregate_num: int | None = None,
        use_fused_step: bool | None = None,
        lazy_update: bool = False,
        **unknown: Any,
    ) -> None:
        if unknown:
            rule = f"arguments among {', '.join(arguments_of(type(self)))}"
            raise ArgumentTypeError(type(self).__name__, rule, ", ".join(unknown), "Check the spelling")
        if clip_gradient is not None and clip_gradient < 0:
            clip_gradient = None  # Gluon's way of saying none
        self.rescale_grad, self.wd, self.clip_gradient = rescale_grad, wd, clip_gradient
        self.lr_scheduler, self.multi_precision = lr_scheduler, multi_precision
        self.lr = self.usual_lr if learning_rate is None else learning_rate
        if lr_scheduler is not None and learning_rate is not None:
            lr_scheduler.base_lr = learning_rate
        self.begin_num_update = self.num_update = begin_num_update
        self.param_dict, self.idx2name = dict(param_dict or {}), dict(param_idx2name or {})
        self.lr_mult: dict[Any, float] = {}
        self.wd_mult: dict[Any, float] = {}
        self._counts: dict[int, dict[Any, int]] = {0: {}}  # updates by device number and index
        self._device_number = 0
        self._fused = FusedUpdate()
        self._given: dict[int, Given] = {}  # by device number, what was updated last
        self._kinds: list[tuple] = []  # those that were grouped last,
        self._grouped: tuple[list[int], tuple[int, ...]] = ([], ())  # and their groups
        self.scaling: Scaling | None = None  # the loss scale that gradients have, if it adapts itself

    # What a subclass says

    def state_names(self) -> tuple[str, ...]:
        """Names of the states, in the order of the rule. Each is an array like the weight, at first 0."""
        return ()

    def scalars(self, index: Any) -> dict[str, Any]:
        """Numbers of the rule for this update of ``index``: learning rate, weight decay, and the subclass's own.

        They are asked for one parameter of each ``kind``.
        """
        return {"lr": self._get_lr(index), "wd": self._get_wd(index)}

    def kind(self, index: Any) -> tuple:
        """What ``scalars`` depends on: factors and count. A subclass whose numbers depend on more adds that."""
        parameter = self.param_dict.get(index)
        if parameter is not None:
            return parameter.lr_mult, parameter.wd_mult, self.update_count(index)
        return self._factor(index, "lr_mult"), self._factor(index, "wd_mult"), self.update_count(index)

    @staticmethod
    def derived(numbers: dict[str, Any]) -> dict[str, Any]:
        """The rule's numbers, made of those of ``scalars``: what depends on ``t``, the number of this update.

        With a loss scale ``t`` is an array of shape (), for only the device knows how many updates it has skipped.
        """
        return numbers

    @staticmethod
    def rule(*args: Any, **scalars: Any) -> tuple[Any, ...]:
        """(new weight, *new states) from (weight, rescaled and clipped gradient, tuple of states) and numbers. Pure.

        A rule that needs norms is a generator: it yields arrays, and is sent the norm of each.
        """
        raise NotImplementedError("Optimizer.rule: a subclass defines rule(w, g, states, lr, wd)")

    # Learning rates

    @staticmethod
    def create_optimizer(name: str, **kwargs: Any) -> Optimizer:
        """An optimizer by name."""
        return create(name, **kwargs)

    register = staticmethod(register)

    @property
    def learning_rate(self) -> float:
        """The rate now: the schedule's for the number of updates done, or the fixed one."""
        return self.lr if self.lr_scheduler is None else self.lr_scheduler(self.num_update)

    def set_learning_rate(self, lr: float) -> None:
        """Set the fixed rate. Raises NotSupported when a schedule decides."""
        if self.lr_scheduler is not None:
            raise NotSupported("set_learning_rate", "no lr_scheduler", self.lr_scheduler, "Set lr_scheduler.base_lr")
        self.lr = lr

    def set_lr_mult(self, args_lr_mult: Mapping[Any, float]) -> None:
        """Factors on the learning rate by index or name."""
        self.lr_mult = dict(args_lr_mult)

    def set_wd_mult(self, args_wd_mult: Mapping[Any, float]) -> None:
        """Factors on the weight decay by index or name."""
        self.wd_mult = dict(args_wd_mult)

    def _factor(self, index: Any, attribute: str) -> float:
        if index in self.param_dict:
            return getattr(self.param_dict[index], attribute)
        table = getattr(self, attribute)
        return table.get(index, table.get(self.idx2name.get(index), 1.0))

    def _get_lr(self, index: Any) -> float:
        return self.learning_rate * self._factor(index, "lr_mult")

    def _get_wd(self, index: Any) -> float:
        return self.wd * self._factor(index, "wd_mult")

    def name_of(self, index: Any) -> str:
        """The parameter's name, or "" when nobody told."""
        return getattr(self.param_dict.get(index), "label", "") or self.idx2name.get(index, "")

    # Counting

    def set_device(self, number: int) -> None:
        """Updates to come are of the copies on device ``number``, which are counted by themselves."""
        self._device_number = number
        self._counts.setdefault(number, {})

    def update_count(self, index: Any) -> int:
        """How many updates parameter ``index`` has had, this one included."""
        return self._counts[self._device_number].get(index, self.begin_num_update)

    def _count(self, given: Given) -> bool:
        """Counts one more update of each; whether they have all had as many."""
        if not given.indices:
            return True
        counts = self._counts[self._device_number]
        try:
            done = given.pick(counts)
        except KeyError:
            done = tuple([counts.get(i, self.begin_num_update) for i in given.indices])
        now = done[0] + 1
        alike = done.count(done[0]) == len(done)
        if alike:
            for index in given.indices:
                counts[index] = now
        else:
            counts.update({i: n + 1 for i, n in zip(given.indices, done, strict=True)})
            now = max(done) + 1
        if now > self.num_update:
            self.num_update = now
        return alike

    def _groups(self, given: Given, alike: bool) -> tuple[list[int], tuple[int, ...]]:
        """Where the first of each kind stands, and the kind of each, numbered. ``alike``: counts need no look."""
        if alike and given.parameters is not None and type(self).kind is Optimizer.kind:
            kinds = [(p.lr_mult, p.wd_mult) for p in given.parameters]
        else:
            kinds = list(map(self.kind, given.indices))
        if kinds != self._kinds:
            numbers: dict[tuple, int] = {}
            of = tuple([numbers.setdefault(kind, len(numbers)) for kind in kinds])
            self._kinds, self._grouped = kinds, ([of.index(i) for i in range(len(numbers))], of)
        return self._grouped

    # States and updates

    def has_master(self, weight: Any) -> bool:
        """True when a float32 master is kept for this weight."""
        return self.multi_precision and _core.dtype_name(weight) in ("float16", "bfloat16")

    def create_state(self, index: Any, weight: Any) -> Any:
        """States for ``weight``: a tuple of arrays, in the order of ``state_names``."""
        return tuple(np.zeros(weight.shape, dtype=weight.dtype, device=weight.device) for _ in self.state_names())

    def create_state_multi_precision(self, index: Any, weight: Any) -> Any:
        """States for ``weight``; with a master, (master, states of the master)."""
        if not self.has_master(weight):
            return self.create_state(index, weight)
        master = weight.detach().astype("float32")
        return master, self.create_state(index, master)

    def update(self, indices: Any, weights: Any, grads: Any, states: Any) -> None:
        """Update one parameter, or lists of them, in place. States are those of ``create_state``."""
        if not isinstance(indices, (list, tuple)):
            indices, weights, grads, states = [indices], [weights], [grads], [states]
        self.step(indices, weights, grads, states)

    def update_multi_precision(self, indices: Any, weights: Any, grads: Any, states: Any) -> None:
        """As ``update``, with the states of ``create_state_multi_precision``."""
        if not isinstance(indices, (list, tuple)):
            indices, weights, grads, states = [indices], [weights], [grads], [states]
        self.step(indices, weights, grads, states, masters=True)

    def step(
        self, indices: Sequence, weights: Sequence, grads: Sequence, states: Sequence, masters: bool = False
    ) -> None:
        """Count, gather the jobs and apply them. ``masters``: states may begin with a float32 master."""
        update = self.jobs(indices, weights, states, masters)
        with autograd.pause():
            self.apply(update, grads)

    def jobs(self, indices: Sequence, weights: Sequence, states: Sequence, masters: bool = False) -> Jobs:
        """What ``apply`` is given for one more update, which is counted; arguments as for ``step``."""
        given = self._given_for(tuple(indices), weights, states, masters and self.multi_precision)
        firsts, of = self._groups(given, self._count(given))
        numbers = []
        for place in firsts:
            made = self.scalars(given.indices[place])
            numbers.append(made if self.scaling is not None else self.derived(made))
        if len(numbers) > 1:
            equal: dict[tuple, int] = {}
            merged = [equal.setdefault(tuple(made.items()), len(equal)) for made in numbers]
            numbers, of = list(map(dict, equal)), tuple([merged[i] for i in of])
        return Jobs(given.jobs, numbers, of)

    def _given_for(self, indices: tuple, weights: Sequence, states: Sequence, masters: bool) -> Given:
        """The same one again for the same tuples."""
        last = self._given.get(self._device_number)
        if last is not None and last.indices is indices and last.weights is weights and last.states is states:
            if last.masters == masters:
                return last
        jobs: list[Job] = []
        for _, weight, state in zip(indices, weights, states, strict=True):
            master = None
            if masters and self.has_master(weight):
                master, state = state
            jobs.append(Job(weight, master, _as_tuple(state)))
        parameters = tuple([self.param_dict.get(i) for i in indices])
        known = None if any(p is None for p in parameters) else parameters
        given = Given(indices, weights, states, masters, jobs, known, picker(indices))
        if isinstance(weights, tuple) and isinstance(states, tuple) and not any(isinstance(s, list) for s in states):
            self._given[self._device_number] = given
        return given

    def apply(self, update: Jobs, grads: Sequence) -> None:
        """Run the rule on every job and write the results in place: all of them as one compiled program."""
        self._fused.run(self, update, grads)

    def update_of(self, update: Jobs, places: Places) -> Any:
        """The function that updates all jobs, to be traced; see fused.py."""
        return update_of(self.rule, update.jobs, places, self.clip_gradient, self.derived, self.scaling)

    def apply_plainly(self, update: Jobs, grads: Sequence) -> None:
        """The plain twin of ``apply``: one job after the other, operator by operator; it waits for the device."""
        factor, skipped = self.rescale_grad, 0.0
        if self.scaling is not None and update.jobs:
            state, finite = self.scaling.scaler.on(update.jobs[0].weight.device), all_finite(grads)
            factor, skipped = factor / (1 if self.scaling.unscaled else state.scale.item()), state.skipped.item()
            for old, new in zip(state, self.scaling.scaler.advance(state, finite), strict=True):
                old[...] = new
            if not finite.item():
                return
        for job, place, grad in zip(update.jobs, update.of, grads, strict=True):
            weight = job.weight if job.master is None else job.master
            grad = self.prepare(grad if job.master is None else grad.astype("float32"), factor)
            numbers = dict(update.numbers[place])
            if "t" in numbers:
                numbers = self.derived(numbers | {"t": numbers["t"] - skipped})
            ((new_weight, *new_states),) = side_by_side([self.rule(weight, grad, job.states, **numbers)])
            weight[...] = new_weight
            for state, value in zip(job.states, new_states, strict=True):
                state[...] = value
            if job.master is not None:
                job.weight[...] = weight.astype(job.weight.dtype)

    def prepare(self, grad: Any, factor: float) -> Any:
        """Rescale and clip a gradient; ``grad`` itself stays as it is."""
        if factor != 1.0:
            grad = grad * factor
        return grad if self.clip_gradient is None else np.clip(grad, -self.clip_gradient, self.clip_gradient)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(learning_rate={self.learning_rate}, wd={self.wd})"


def checked(where: str, **values: float) -> None:
    """Raise ArgumentError for a hyper-parameter that should lie in [0, 1) and does not."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ArgumentError(where, f"{name} in [0, 1)", value, "Usual are 0.9 to 0.999")


def _as_tuple(state: Any) -> tuple[Any, ...]:
    if isinstance(state, (list, tuple)):
        return tuple(state)
    return () if state is None else (state,)
