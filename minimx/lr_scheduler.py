"""Learning-rate schedules: callables that give the rate for a number of updates.

Each is a function of ``num_update`` alone, so a run that resumes from a checkpoint needs no more than that number.
The optimizer (minimx/optimizer/optimizer.py) calls them.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

from .errors import ArgumentError

__all__ = ["LRScheduler", "FactorScheduler", "MultiFactorScheduler", "PolyScheduler", "CosineScheduler"]


class LRScheduler:
    """Base: warm-up, then ``decayed(num_update)`` of the subclass.

    base_lr: rate after warm-up. warmup_steps: updates it takes. warmup_begin_lr: where it starts. warmup_mode: "linear"
    (rise to base_lr) or "constant" (stay at warmup_begin_lr). Subclasses may also override ``__call__``.
    """

    def __init__(
        self, base_lr: float = 0.01, warmup_steps: int = 0, warmup_begin_lr: float = 0.0, warmup_mode: str = "linear"
    ) -> None:
        if warmup_steps < 0 or int(warmup_steps) != warmup_steps:
            raise ArgumentError(type(self).__name__, "warmup_steps a whole number, not negative", warmup_steps)
        if warmup_begin_lr > base_lr:
            raise ArgumentError(type(self).__name__, f"warmup_begin_lr up to base_lr={base_lr}", warmup_begin_lr)
        if warmup_mode not in ("linear", "constant"):
            raise ArgumentError(type(self).__name__, "warmup_mode 'linear' or 'constant'", repr(warmup_mode))
        self.base_lr = base_lr
        self.warmup_steps, self.warmup_begin_lr, self.warmup_mode = int(warmup_steps), warmup_begin_lr, warmup_mode

    @property
    def warmup_final_lr(self) -> float:
        """Where warm-up ends: the base rate."""
        return self.base_lr

    def get_warmup_lr(self, num_update: int) -> float:
        """Rate of update ``num_update`` < warmup_steps."""
        if self.warmup_mode == "constant":
            return self.warmup_begin_lr
        return self.warmup_begin_lr + (self.base_lr - self.warmup_begin_lr) * num_update / self.warmup_steps

    def __call__(self, num_update: int) -> float:
        if num_update < self.warmup_steps:
            return self.get_warmup_lr(num_update)
        return self.decayed(num_update)

    def decayed(self, num_update: int) -> float:
        """Rate of update ``num_update`` after warm-up."""
        raise NotImplementedError(f"{type(self).__name__}: define decayed(num_update) or __call__(num_update)")


class FactorScheduler(LRScheduler):
    """base_lr * factor ** ((num_update - 1) // step), and never below ``stop_factor_lr``."""

    def __init__(
        self,
        step: int,
        factor: float = 1.0,
        stop_factor_lr: float = 1e-8,
        base_lr: float = 0.01,
        warmup_steps: int = 0,
        warmup_begin_lr: float = 0.0,
        warmup_mode: str = "linear",
    ) -> None:
        super().__init__(base_lr, warmup_steps, warmup_begin_lr, warmup_mode)
        if step < 1:
            raise ArgumentError("FactorScheduler", "step of at least 1", step)
        if factor > 1.0:
            raise ArgumentError("FactorScheduler", "factor up to 1, so that the rate falls", factor)
        self.step, self.factor, self.stop_factor_lr = step, factor, stop_factor_lr

    def decayed(self, num_update: int) -> float:
        drops = max(num_update - 1, 0) // self.step
        return max(self.base_lr * self.factor**drops, min(self.stop_factor_lr, self.base_lr))


class MultiFactorScheduler(LRScheduler):
    """base_lr * factor ** (number of ``step`` that num_update has passed). ``step``: increasing update numbers."""

    def __init__(
        self,
        step: Sequence[int],
        factor: float = 1.0,
        base_lr: float = 0.01,
        warmup_steps: int = 0,
        warmup_begin_lr: float = 0.0,
        warmup_mode: str = "linear",
    ) -> None:
        super().__init__(base_lr, warmup_steps, warmup_begin_lr, warmup_mode)
        steps = list(step)
        if not steps or steps[0] < 1 or any(a >= b for a, b in zip(steps, steps[1:], strict=False)):
            raise ArgumentError("MultiFactorScheduler", "step to be increasing numbers from 1", steps)
        if factor > 1.0:
            raise ArgumentError("MultiFactorScheduler", "factor up to 1, so that the rate falls", factor)
        self.step, self.factor = steps, factor

    def decayed(self, num_update: int) -> float:
        return self.base_lr * self.factor ** bisect.bisect_left(self.step, num_update)


class PolyScheduler(LRScheduler):
    """final_lr + (base_lr - final_lr) * (1 - progress) ** pwr; progress is 0 after warm-up and 1 at max_update."""

    def __init__(
        self,
        max_update: int,
        base_lr: float = 0.01,
        pwr: float = 2,
        final_lr: float = 0.0,
        warmup_steps: int = 0,
        warmup_begin_lr: float = 0.0,
        warmup_mode: str = "linear",
    ) -> None:
        super().__init__(base_lr, warmup_steps, warmup_begin_lr, warmup_mode)
        self.max_update, self.power, self.final_lr = _checked_end(self, max_update), pwr, final_lr

    def decayed(self, num_update: int) -> float:
        left = 1 - _progress(self, num_update, self.max_update)
        return self.final_lr + (self.base_lr - self.final_lr) * left**self.power


class CosineScheduler(LRScheduler):
    """final_lr + (base_lr - final_lr) * (1 + cos(pi * progress)) / 2. Loshchilov and Hutter 2016, arXiv:1608.03983."""

    def __init__(
        self,
        max_update: int,
        base_lr: float = 0.01,
        final_lr: float = 0.0,
        warmup_steps: int = 0,
        warmup_begin_lr: float = 0.0,
        warmup_mode: str = "linear",
    ) -> None:
        super().__init__(base_lr, warmup_steps, warmup_begin_lr, warmup_mode)
        self.max_update, self.final_lr = _checked_end(self, max_update), final_lr

    def decayed(self, num_update: int) -> float:
        wave = (1 + math.cos(math.pi * _progress(self, num_update, self.max_update))) / 2
        return self.final_lr + (self.base_lr - self.final_lr) * wave


def _checked_end(scheduler: LRScheduler, max_update: int) -> int:
    if max_update < 1:
        raise ArgumentError(type(scheduler).__name__, "max_update of at least 1", max_update)
    return max_update


def _progress(scheduler: LRScheduler, num_update: int, max_update: int) -> float:
    """Part of the way from the end of warm-up to max_update, within [0, 1]."""
    length = max(max_update - scheduler.warmup_steps, 1)
    return min(max(num_update - scheduler.warmup_steps, 0) / length, 1.0)
