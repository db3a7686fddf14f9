"""Updater: an optimizer together with the states of the parameters it updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import is_
from typing import Any

from ..errors import FileFormatError, NameNotFound, ShapeError
from .optimizer import Optimizer, _as_tuple, picker

__all__ = ["Updater", "get_updater"]


class Updater:
    """Calls an optimizer with states that it makes as they are needed.

    >>> import minimx as mx
    >>> updater = mx.optimizer.get_updater(mx.optimizer.SGD(learning_rate=0.5))
    >>> w = mx.np.ones((2,))
    >>> updater(0, mx.np.ones((2,)), w)
    >>> w.tolist()
    [0.5, 0.5]
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.states: dict[Any, Any] = {}
        self._indices, self._pick = (), picker(())
        self._given: tuple = ()  # what states_of returned last

    def __call__(self, index: Any, grad: Any, weight: Any) -> None:
        """Update one parameter, or lists of them, in place."""
        if not isinstance(index, (list, tuple)):
            index, grad, weight = [index], [grad], [weight]
        self.optimizer.update_multi_precision(index, weight, grad, self.states_of(index, weight))

    def states_of(self, indices: Sequence, weights: Sequence) -> tuple:
        """The states of parameters, those made that are not there; the same tuple again while they are the same."""
        if indices is not self._indices:
            self._indices = tuple(indices)
            self._pick = picker(self._indices)
        try:
            found = self._pick(self.states)
        except KeyError:
            for i, w in zip(indices, weights, strict=True):
                if i not in self.states:
                    self.states[i] = self.optimizer.create_state_multi_precision(i, w)
            found = self._pick(self.states)
        if len(found) != len(self._given) or not all(map(is_, found, self._given)):
            self._given = found
        return self._given

    def get_states(self) -> dict[str, Any]:
        """All states as a flat dict of arrays: ``<index>.<name>``, and ``<index>.master`` for a float32 master."""
        arrays = {}
        for index, state in self.states.items():
            master, rest = _split(state)
            if master is not None:
                arrays[f"{index}.master"] = master
            for name, array in zip(self._names(len(rest)), rest, strict=True):
                arrays[f"{index}.{name}"] = array
        return arrays

    def set_states(self, arrays: Mapping[str, Any], weights: Mapping[Any, Any]) -> None:
        """Take states that ``get_states`` gave, for ``weights`` by index; all are checked before any is taken.

        Raises NameNotFound for names that are missing or left over, ShapeError for shapes of another model.
        """
        left, fresh = dict(arrays), {}
        present = {name.partition(".")[0] for name in arrays}
        for index, weight in weights.items():
            if str(index) in present:
                fresh[index] = self.optimizer.create_state_multi_precision(index, weight)
                self._fill(index, fresh[index], left)
        if left:
            raise NameNotFound("set_states", "states of this optimizer", ", ".join(left), "Is it the same optimizer?")
        self.states = fresh

    def _fill(self, index: Any, state: Any, left: dict[str, Any]) -> None:
        master, rest = _split(state)
        targets = dict(zip(self._names(len(rest)), rest, strict=True))
        if master is not None:
            targets["master"] = master
        for name, target in targets.items():
            key = f"{index}.{name}"
            if key not in left:
                raise FileFormatError(
                    "set_states", f"a state {key!r}", "none", "Is it the same optimizer and precision?"
                )
            value = left.pop(key)
            if tuple(value.shape) != tuple(target.shape):
                raise ShapeError(
                    "set_states", f"shape {target.shape} for {key!r}", value.shape, "Is it the same model?"
                )
            target[...] = value.to_device(target.device)

    def _names(self, count: int) -> tuple[str, ...]:
        """The optimizer's state names; numbers where it does not say."""
        names = self.optimizer.state_names()
        return names if len(names) == count else tuple(map(str, range(count)))


def _split(state: Any) -> tuple[Any, tuple[Any, ...]]:
    """(master or None, states) of what create_state_multi_precision gave: with a master it is (array, tuple)."""
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], (tuple, type(None))):
        return state[0], _as_tuple(state[1])
    return None, _as_tuple(state)


def get_updater(optimizer: Optimizer) -> Updater:
    """An Updater of ``optimizer``."""
    return Updater(optimizer)
