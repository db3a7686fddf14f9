"""Trainer: applies an optimizer to a set of parameters, on one device or several of this process."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any, NamedTuple

from .. import optimizer, serialization
from ..errors import ArgumentError, ArgumentTypeError, AutogradError, FileFormatError, NotSupported
from ..ndarray import _core
from ..optimizer.fused import Scaling
from .buckets import Buckets
from .parameter import CHANGES, Parameter

__all__ = ["Trainer", "TrainerState"]

_KEY = "minimx.trainer"  # of the metadata in a file of states
_AMP = "amp."  # begins the names of a loss scale's arrays there


class TrainerState(NamedTuple):
    """What a trainer must remember: arrays by name, and facts that JSON can hold."""

    arrays: dict[str, Any]
    facts: dict[str, Any]


class Copies(NamedTuple):
    """The copies of parameters on one device: their indices, and the arrays."""

    indices: tuple[int, ...]
    weights: tuple[Any, ...]


class Trainer:
    """Updates parameters by their gradients.

    params: what ``collect_params`` gives, or a sequence of Parameters. optimizer: a name or an Optimizer.
    optimizer_params: the optimizer's arguments when it is a name. kvstore: how copies on several devices agree; here
    "device" and "local" both mean their sum, computed in this process (minimx/collectives.py). compression_params is
    not supported, and update_on_kvstore means nothing here.

    >>> import minimx as mx
    >>> net = mx.gluon.nn.Dense(1, in_units=2)
    >>> net.initialize()
    >>> trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    >>> with mx.autograd.record():
    ...     loss = net(mx.np.ones((4, 2))).sum()
    >>> loss.backward()
    >>> trainer.step(batch_size=4)
    """

    def __init__(
        self,
        params: Mapping[str, Parameter] | Sequence[Parameter],
        optimizer: Any,
        optimizer_params: Mapping[str, Any] | None = None,
        kvstore: Any = "device",
        compression_params: Any = None,
        update_on_kvstore: bool | None = None,
    ) -> None:
        if kvstore not in ("device", "local", None):
            way_out = "Pass kvstore='device'"
            raise NotSupported("Trainer", "kvstore 'device', 'local' or None", repr(kvstore), way_out)
        if compression_params:
            raise NotSupported("Trainer", "no compression_params", compression_params, "Leave them out")
        self._params = _parameters(params)
        self._optimizer = _make_optimizer(optimizer, dict(optimizer_params or {}), self._params)
        self._scale = self._optimizer.rescale_grad
        self._updaters: list[Any] = []  # one a device, made when needed
        self._buckets = Buckets()  # of gradients on several devices
        self._gathered: tuple[int, list[Copies]] = (-1, [])  # what is trained, as of so many changes of parameters
        self._amp_loss_scaler: Any = None  # set by amp.init_trainer
        self._amp_unscaled = False  # the gradients have been divided by the loss scale

    @property
    def optimizer(self) -> Any:
        """The Optimizer."""
        return self._optimizer

    @property
    def learning_rate(self) -> float:
        """The rate now, by the schedule if there is one."""
        return self._optimizer.learning_rate

    def set_learning_rate(self, lr: float) -> None:
        """Set the rate. Raises NotSupported when a schedule decides."""
        self._optimizer.set_learning_rate(lr)

    def step(self, batch_size: float, ignore_stale_grad: bool = False) -> None:
        """Sum gradients over devices, divide by ``batch_size`` and update.

        Raises AutogradError for a parameter that no backward has reached since the last step; with ignore_stale_grad
        such parameters are left alone.
        """
        copies = self._copies()
        if not ignore_stale_grad:
            self._check_fresh(copies)
        if len(copies) > 1:
            self.allreduce_grads()
        self._update(batch_size, copies, ignore_stale_grad)

    def allreduce_grads(self) -> None:
        """Put the sum of a parameter's gradients over its devices on each of them. ``step`` does it itself."""
        self._buckets.sum([w for _, p in self._trained() if len(w := p.list_data()) > 1])

    def update(self, batch_size: float, ignore_stale_grad: bool = False) -> None:
        """Divide gradients by ``batch_size`` and update, without summing over devices; see ``step``."""
        copies = self._copies()
        if not ignore_stale_grad:
            self._check_fresh(copies)
        self._update(batch_size, copies, ignore_stale_grad)

    def _update(self, batch_size: float, copies: list[Copies], only_fresh: bool) -> None:
        self._set_batch_size(batch_size)
        for number, (indices, weights) in enumerate(copies):
            if only_fresh and (fresh := _core.fresh_grads(weights)) is not None:
                indices, weights = tuple(compress(indices, fresh)), tuple(compress(weights, fresh))
            self._optimizer.set_device(number)
            self._updater(number)(indices, _core.grads(weights), weights)
            _core.mark_grads_used(weights)

    def _set_batch_size(self, batch_size: float) -> None:
        if batch_size <= 0:
            raise ArgumentError("Trainer", "batch_size above 0", batch_size, "Pass the number of samples in the loss")
        scaler, factor, scaling = self._amp_loss_scaler, 1.0, None
        if scaler is not None and scaler.dynamic:
            scaling = Scaling(scaler, self._amp_unscaled)
        elif scaler is not None and not self._amp_unscaled:
            factor = scaler.init_scale
        self._optimizer.rescale_grad, self._optimizer.scaling = self._scale / batch_size / factor, scaling
        self._amp_unscaled = False

    def _loss_scale(self, device: Any) -> Any:
        """The array of shape () that losses on a device are multiplied by, or None."""
        scaler = self._amp_loss_scaler
        return None if scaler is None or scaler.trivial else scaler.on(device).scale

    def _scaled(self, loss: Any) -> Any:
        """A loss, or each of a list, times the loss scale."""
        if isinstance(loss, (list, tuple)):
            return [self._scaled(x) for x in loss]
        scale = self._loss_scale(loss.device)
        return loss if scale is None else loss * scale

    def _next_jobs(self, batch_size: float) -> Any:
        """What the optimizer would be given for one more update of all parameters on their one device, counted."""
        self._set_batch_size(batch_size)
        indices, weights = self._copies()[0]
        self._optimizer.set_device(0)
        states = self._updater(0).states_of(indices, weights)
        return self._optimizer.jobs(indices, weights, states, masters=True)

    def zero_grad(self) -> None:
        """Set all gradients to 0 (for grad_req "add")."""
        for _, parameter in self._trained():
            parameter.zero_grad()

    def get_states(self) -> TrainerState:
        """All that the trainer must remember. Devices have equal states; those of the first are taken."""
        facts = {
            "optimizer": type(self._optimizer).__name__,
            "num_update": self._optimizer.num_update,
            "counts": {str(i): n for i, n in self._optimizer._counts[0].items()},
            "learning_rate": self._optimizer.lr,
            "parameters": len(self._params),
        }
        scale = {} if self._amp_loss_scaler is None else self._amp_loss_scaler.get_state()
        return TrainerState(self._updater(0).get_states() | {_AMP + k: v for k, v in scale.items()}, facts)

    def set_states(self, state: TrainerState) -> None:
        """Go on from ``get_states`` of a trainer of the same model and optimizer.

        Raises FileFormatError, NameNotFound or ShapeError when it is of another.
        """
        arrays, facts = state
        _check_facts(facts, type(self._optimizer).__name__, len(self._params))
        scale = {k.removeprefix(_AMP): v for k, v in arrays.items() if k.startswith(_AMP)}
        if scale and self._amp_loss_scaler is not None:
            self._amp_loss_scaler.set_state(scale)
            arrays = {k: v for k, v in arrays.items() if not k.startswith(_AMP)}
        copies = [dict(zip(*copy, strict=True)) for copy in self._copies()] or [{}]
        for number, weights in enumerate(copies):
            self._updater(number).set_states(arrays, weights)
        counts = {int(index): int(n) for index, n in facts["counts"].items()}
        self._optimizer._counts = {number: dict(counts) for number in range(len(copies))}
        self._optimizer.num_update = int(facts["num_update"])
        self._optimizer.lr = float(facts["learning_rate"])

    def save_states(self, fname: str | os.PathLike) -> None:
        """Write the states to a safetensors file, atomically."""
        arrays, facts = self.get_states()
        serialization.save(fname, arrays, {_KEY: json.dumps(facts)})

    def load_states(self, fname: str | os.PathLike) -> None:
        """Read a file of ``save_states``. Raises FileMissing, FileFormatError, and what ``set_states`` does."""
        arrays, metadata = serialization.read(fname)
        try:
            facts = json.loads(metadata[_KEY])
        except (KeyError, ValueError):
            way_out = "Pass a file that Trainer.save_states wrote"
            raise FileFormatError(f"load_states {os.fspath(fname)}", "states of a trainer", "none", way_out) from None
        self.set_states(TrainerState(arrays, facts))

    def _trained(self) -> list[tuple[int, Parameter]]:
        return [(i, p) for i, p in enumerate(self._params) if p.grad_req != "null"]

    def _check_fresh(self, copies: list[Copies]) -> None:
        """Every copy has had a backward since the last update, or AutogradError."""
        for indices, weights in copies:
            fresh = _core.fresh_grads(weights)
            if fresh is not None:
                place = fresh.index(False)
                parameter, device = self._params[indices[place]], weights[place].device
                rule = f"a backward that reaches parameter {parameter.label!r} on {device} before each step"
                way_out = "Call loss.backward(), or pass ignore_stale_grad=True if part of the model is not used"
                raise AutogradError("Trainer.step", rule, "none since the last one", way_out)

    def _copies(self) -> list[Copies]:
        """What is trained, for each device number: the same objects until a parameter gets other arrays or wishes."""
        if self._gathered[0] != CHANGES[0]:
            found: list[dict[int, Any]] = []
            for index, parameter in self._trained():
                for number, array in enumerate(parameter._known().values()):
                    if number == len(found):
                        found.append({})
                    found[number][index] = array
            copies = [Copies(tuple(arrays), tuple(arrays.values())) for arrays in found]
            self._gathered = (CHANGES[0], copies)
        return self._gathered[1]

    def _updater(self, number: int) -> Any:
        while len(self._updaters) <= number:
            self._updaters.append(optimizer.get_updater(self._optimizer))
        return self._updaters[number]


def _parameters(params: Any) -> list[Parameter]:
    """A list with every parameter once."""
    items = list(params.values()) if isinstance(params, Mapping) else list(params)
    for item in items:
        if not isinstance(item, Parameter):
            raise ArgumentTypeError("Trainer", "Parameters", type(item).__name__, "Pass net.collect_params()")
    return list({id(p): p for p in items}.values())


def _make_optimizer(given: Any, arguments: dict[str, Any], parameters: list[Parameter]) -> Any:
    by_index = dict(enumerate(parameters))
    if isinstance(given, optimizer.Optimizer):
        if arguments:
            way_out = "Give them to the optimizer itself"
            raise ArgumentError("Trainer", "no optimizer_params with an Optimizer object", arguments, way_out)
        given.param_dict = by_index
        return given
    return optimizer.create(given, param_dict=by_index, **arguments)


def _check_facts(facts: Any, name: str, count: int) -> None:
    """The states are of this optimizer and of as many parameters."""
    wanted = {"optimizer", "num_update", "counts", "learning_rate", "parameters"}
    if not isinstance(facts, dict) or not wanted <= set(facts):
        raise FileFormatError("Trainer.set_states", f"the facts {', '.join(sorted(wanted))}", facts, "Is it damaged?")
    if facts["optimizer"] != name:
        raise FileFormatError("Trainer.set_states", f"states of {name}", facts["optimizer"], "Use that optimizer")
    if facts["parameters"] != count:
        way_out = "Is it the same model?"
        raise FileFormatError("Trainer.set_states", f"{count} parameters", facts["parameters"], way_out)
