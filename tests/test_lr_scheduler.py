"""Learning-rate schedules against the stepwise definitions of Gluon."""

import math

import pytest

from minimx import errors
from minimx import lr_scheduler as lrs


def test_factor_drops_after_each_step():
    schedule, rate, count = lrs.FactorScheduler(step=3, factor=0.5, stop_factor_lr=0.2, base_lr=1.0), 1.0, 0
    for n in range(1, 20):
        if n > count + 3:
            count, rate = count + 3, max(rate * 0.5, 0.2)
        assert schedule(n) == pytest.approx(rate), n


def test_multi_factor_drops_after_the_given_updates():
    schedule = lrs.MultiFactorScheduler(step=[3, 5], factor=0.1, base_lr=1.0)
    assert [schedule(n) for n in range(1, 8)] == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_poly_and_cosine():
    poly = lrs.PolyScheduler(max_update=10, base_lr=1.0, pwr=2, final_lr=0.1)
    assert [poly(0), poly(5), poly(10), poly(99)] == pytest.approx([1, 0.1 + 0.9 * 0.25, 0.1, 0.1])
    cosine = lrs.CosineScheduler(max_update=10, base_lr=1.0, final_lr=0.2)
    assert cosine(5) == pytest.approx(0.6) and cosine(10) == pytest.approx(0.2)
    assert cosine(2) == pytest.approx(0.2 + 0.8 * (1 + math.cos(0.2 * math.pi)) / 2)


@pytest.mark.parametrize("make", [lrs.PolyScheduler, lrs.CosineScheduler])
def test_warm_up(make):
    schedule = make(100, base_lr=1.0, warmup_steps=10, warmup_begin_lr=0.5)
    assert [schedule(0), schedule(4), schedule(10)] == pytest.approx([0.5, 0.7, 1.0]) and schedule(
        100
    ) == pytest.approx(0)
    constant = make(100, base_lr=1.0, warmup_steps=10, warmup_begin_lr=0.5, warmup_mode="constant")
    assert constant(9) == 0.5 and constant(10) == 1.0


def test_calls_do_not_change_a_schedule():
    schedule = lrs.FactorScheduler(step=2, factor=0.5, base_lr=1.0)
    assert schedule(9) == schedule(9) and schedule(1) == 1.0


@pytest.mark.parametrize(
    "make",
    [
        lambda: lrs.FactorScheduler(step=0),
        lambda: lrs.FactorScheduler(step=1, factor=1.5),
        lambda: lrs.MultiFactorScheduler(step=[3, 3]),
        lambda: lrs.MultiFactorScheduler(step=[]),
        lambda: lrs.PolyScheduler(max_update=0),
        lambda: lrs.CosineScheduler(10, warmup_steps=-1),
        lambda: lrs.CosineScheduler(10, base_lr=0.1, warmup_begin_lr=1),
        lambda: lrs.CosineScheduler(10, warmup_mode="slow"),
    ],
)
def test_errors(make):
    with pytest.raises(errors.ArgumentError, match="Scheduler: expected"):
        make()
