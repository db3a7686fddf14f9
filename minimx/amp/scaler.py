"""The loss scale of float16: small gradients would be 0 there, so the loss is multiplied by a number that adapts.

Scale and counters are arrays on the device, and the one program that updates the parameters (minimx/optimizer/fused.py)
also reads and writes them: no step waits for the host, and a captured graph of a step stays valid. After Micikevicius
et al. 2017, arXiv:1710.03740, section 3.2.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .. import autograd, np
from ..errors import ArgumentError, ArgumentTypeError
from ..gluon.trainer import Trainer
from ..ndarray import _core
from ..optimizer.fused import all_finite

__all__ = ["LossScaler", "init_trainer", "scale_loss", "unscale"]


class Scale(NamedTuple):
    """A scaler's state on one device, float32 arrays of shape ()."""

    scale: Any  # what the loss is multiplied by
    good: Any  # steps since the scale last changed
    skipped: Any  # steps that changed nothing, since a gradient was not finite


class LossScaler:
    """A loss scale: doubled after ``scale_window`` good steps, halved when a gradient is not finite.

    It stays in [1, max_scale]. dynamic=False: it stays ``init_scale``, and gradients are not looked at.
    """

    def __init__(
        self,
        init_scale: float = 2.0**16,
        scale_factor: float = 2.0,
        scale_window: int = 2000,
        max_scale: float = 2.0**24,
        dynamic: bool = True,
    ) -> None:
        if not 1 <= init_scale <= max_scale or scale_factor <= 1 or scale_window < 1:
            got = f"{init_scale}, {max_scale}, {scale_factor}, {scale_window}"
            rule = "init_scale in [1, max_scale], scale_factor above 1 and scale_window of 1 or more"
            raise ArgumentError("LossScaler", rule, got, "Leave them out for MXNet's")
        self.init_scale, self.scale_factor = float(init_scale), float(scale_factor)
        self.scale_window, self.max_scale, self.dynamic = int(scale_window), float(max_scale), dynamic
        self._states: dict[Any, Scale] = {}

    def on(self, device: Any) -> Scale:
        """The state on a device. Devices see the same gradients, so theirs stay equal without talking to each other."""
        if device not in self._states:
            first = next(iter(self._states.values()), None)
            values = (self.init_scale, 0.0, 0.0) if first is None else (x.item() for x in first)
            self._states[device] = Scale(*(np.array(v, dtype="float32", device=device) for v in values))
        return self._states[device]

    @property
    def trivial(self) -> bool:
        """True if the scale is always 1, as for bfloat16."""
        return not self.dynamic and self.init_scale == 1

    @property
    def loss_scale(self) -> float:
        """The scale now. Waits for the device."""
        return self._number("scale") if self._states else self.init_scale

    @property
    def skipped(self) -> int:
        """How many steps were skipped. Waits for the device."""
        return int(self._number("skipped")) if self._states else 0

    def _number(self, name: str) -> float:
        return getattr(next(iter(self._states.values())), name).item()

    def has_overflow(self, params: Any) -> bool:
        """Is a gradient of these Parameters not finite? Waits for the device; ``Trainer.step`` finds out by itself."""
        items = params.values() if isinstance(params, Mapping) else params
        grads = [g for p in items if p.grad_req != "null" for g in p.list_grad()]
        with autograd.pause():
            found = [all_finite([g for g in grads if g.device == d]) for d in {g.device for g in grads}]
        return not all(x.item() for x in found)

    def advance(self, s: Scale, finite: Any) -> Scale:
        """The state after a step whose gradients were ``finite`` (an array of shape ()). Pure: for traced code."""
        good = np.where(finite, s.good + 1, 0.0)
        full = good >= self.scale_window
        grown = np.minimum(s.scale * self.scale_factor, self.max_scale)
        shrunk = np.maximum(s.scale / self.scale_factor, 1.0)
        scale = np.where(finite, np.where(full, grown, s.scale), shrunk)
        return Scale(scale, np.where(full, 0.0, good), s.skipped + np.where(finite, 0.0, 1.0))

    def get_state(self) -> dict[str, Any]:
        """Arrays by name, to go on from with ``set_state``; none before the first use."""
        return next(iter(self._states.values()))._asdict() if self._states else {}

    def set_state(self, arrays: Mapping[str, Any]) -> None:
        """Go on from what ``get_state`` gave."""
        given = Scale(**{name: arrays[name] for name in Scale._fields})
        for device in list(self._states) or [given.scale.device]:
            for mine, value in zip(self.on(device), given, strict=True):
                mine[...] = value.to_device(device)


def init_trainer(trainer: Any, scaler: LossScaler | None = None) -> None:
    """Have ``trainer`` undo the loss scale, and skip steps with gradients that are not finite.

    scaler: by default a dynamic one where the mode of ``amp.init`` or ``autocast`` is float16, and a constant 1 for
    bfloat16, whose range is float32's.
    """
    if not isinstance(trainer, Trainer):
        raise ArgumentTypeError("amp.init_trainer", "a gluon.Trainer", type(trainer).__name__, "Make one first")
    if scaler is None:
        scaler = LossScaler() if _core.low_type() != "bfloat16" else LossScaler(1.0, dynamic=False)
    trainer._amp_loss_scaler = scaler
    trainer._amp_unscaled = False


@contextlib.contextmanager
def scale_loss(loss: Any, trainer: Any) -> Iterator[Any]:
    """``with`` block that gives the loss (or each of a list) times the loss scale, to call ``backward`` on.

    >>> import minimx as mx
    >>> net = mx.gluon.nn.Dense(1, in_units=2)
    >>> net.initialize()
    >>> trainer = mx.gluon.Trainer(net.collect_params(), "sgd")
    >>> mx.amp.init_trainer(trainer)
    >>> with mx.autograd.record(), mx.amp.autocast("float16"):
    ...     loss = net(mx.np.ones((4, 2))).sum()
    ...     with mx.amp.scale_loss(loss, trainer) as scaled:
    ...         mx.autograd.backward(scaled)
    >>> trainer.step(4)
    """
    _check("amp.scale_loss", trainer)
    trainer._amp_unscaled = False
    yield trainer._scaled(loss)


def unscale(trainer: Any) -> None:
    """Divide the gradients of ``trainer`` by the loss scale now, to clip or look at them; ``step`` then does not.

    Raises ArgumentError when they have been divided already.
    """
    _check("amp.unscale", trainer)
    if trainer._amp_unscaled:
        raise ArgumentError("amp.unscale", "gradients with the loss scale", "unscaled ones", "Call it once a step")
    trainer._amp_unscaled = True
    with autograd.pause():
        for _, parameter in trainer._trained():
            for grad in parameter.list_grad():
                scale = trainer._loss_scale(grad.device)
                if scale is not None:
                    grad[...] = grad / scale


def _check(where: str, trainer: Any) -> None:
    if getattr(trainer, "_amp_loss_scaler", None) is None:
        raise ArgumentError(where, "a trainer with a loss scale", "one without", "Call amp.init_trainer(trainer) first")
