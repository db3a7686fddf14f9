"""Sequences that a thread repeats are put off whole and run as one program; nothing but speed may show."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_deferred import random_program, ready

import minimx as mx
from minimx import autograd, gluon
from minimx.gluon import nn
from minimx.graph import bulk
from minimx.ndarray import _core

LATER = 8  # from its eighth time on a sequence runs as a program


@pytest.fixture(autouse=True)
def _no_lists_of_others():
    _core.forget_lists()
    with numpy.errstate(all="ignore"):
        yield


def model():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3, in_channels=2), nn.BatchNorm(in_channels=4), nn.Activation("relu"), nn.MaxPool2D())
    net.add(nn.Flatten(), nn.Dense(8, activation="relu", in_units=16), nn.Dropout(0.5), nn.Dense(3, in_units=8))
    net.initialize(mx.init.Xavier())
    return net


class Job:
    """A training loop; ``step`` gives the loss. ``odd``: steps that do something more."""

    def __init__(self, odd=(), hybridize=False, req="write"):
        mx.random.seed(7)
        self.net, self.odd = model(), odd
        if hybridize:
            self.net.hybridize()
        params = self.net.collect_params()
        params.setattr("grad_req", req)
        self.trainer = gluon.Trainer(params, "sgd", {"learning_rate": 0.05, "momentum": 0.9})
        self.loss = gluon.loss.SoftmaxCrossEntropyLoss()
        rng = numpy.random.default_rng(0)
        self.batches = [
            (mx.np.array(rng.normal(size=(5, 2, 6, 6)).astype("float32")), mx.np.array(rng.integers(0, 3, 5)))
            for _ in range(3)
        ]
        self.done = 0
        mx.random.seed(8)

    def step(self):
        i, self.done = self.done, self.done + 1
        x, y = self.batches[i % 3]
        if self.trainer._params[0].grad_req == "add":
            for p in self.trainer._params:
                p.zero_grad()
        with autograd.record():
            out = self.net(x)
            loss = self.loss(out, y)
            if i in self.odd:
                loss = loss + (out**2).mean()
        loss.backward()
        self.trainer.step(5)
        return loss

    def run(self, steps):
        return [float(self.step().mean().item()) for _ in range(steps)]

    def state(self):
        return [p.data().asnumpy() for p in self.net.collect_params().values()]


def programs(f):
    """(what f gives with replay, runs of programs meanwhile)."""
    before = mx.engine.bulk_counts()["programs"]
    with mx.engine.replay():
        out = f()
    return out, mx.engine.bulk_counts()["programs"] - before


def alike(a, b):
    numpy.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)


def agrees(work):
    """Runs of programs while ``work`` is replayed, which gives what it gives without."""
    want = work()
    got, runs = programs(work)
    alike(got, want)
    return runs


def test_a_training_loop_becomes_one_program_a_step():
    plain = Job()
    want = plain.run(24)
    job = Job()
    got, runs = programs(lambda: job.run(24))
    alike(got, want)
    assert got[: LATER + 1] == want[: LATER + 1], "until then it runs one by one"
    for a, b in zip(job.state(), plain.state(), strict=True):
        alike(a, b)
    # a step is forward with backward, and the mean that is read; the former are seen twice before they are expected
    assert runs >= 24 - 2 - LATER


def test_a_step_is_one_list():
    """What BatchNorm does inside pause() is part of it."""
    job = Job()
    with mx.engine.replay():
        job.run(LATER + 4)
        before = mx.engine.bulk_counts()
        job.step()
        mx.waitall()
        after = mx.engine.bulk_counts()
    assert (after["lists"] - before["lists"], after["programs"] - before["programs"]) == (1, 1)


@pytest.mark.cpu_only("of a GPU all sequences pay")
@pytest.mark.parametrize("size, pays", [(8, False), (1 << 17, True)])
def test_by_default_what_pays_is_put_off(size, pays):
    x = mx.np.ones((size,))
    with mx.engine.bulk(0), mx.engine.replay(None):
        for _ in range(4):
            before = mx.engine.bulk_counts()["calls"]
            y = mx.np.cumsum(mx.np.sqrt(x)) + 1
            y.wait_to_read()
    assert (mx.engine.bulk_counts()["calls"] - before == 3) is pays
    assert y[:4].asnumpy().tolist() == [2, 3, 4, 5]


def test_by_default_the_main_thread_repeats():
    """By luck alone another thread's calls would not be put off now and then."""

    def work():
        x, put_off = mx.np.ones((1 << 17,), device=device), []
        for _ in range(4):
            before = mx.engine.bulk_counts()["calls"]
            mx.np.cumsum(x).wait_to_read()
            put_off.append(mx.engine.bulk_counts()["calls"] - before)
        return put_off

    device = mx.current_device()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == [0, 0, 0, 0]


def test_what_nobody_holds():
    """Programs of nothing."""
    x = mx.np.ones((5,))
    with mx.engine.replay():
        for _ in range(2 * LATER):
            for _ in range(3):
                x + 1
            mx.waitall()
    assert x.asnumpy().tolist() == [1] * 5


def test_every_run_gives_the_same_bits():
    results = []
    for _ in range(2):
        _core.forget_lists()
        results.append(programs(lambda: Job().run(20))[0])
    assert results[0] == results[1]


def test_what_differs_now_and_then_is_run_as_it_is():
    odd = (4, 13, 14, 19)
    want = Job(odd).run(24)
    got, runs = programs(lambda: Job(odd).run(24))
    alike(got, want)
    assert runs > 6


def test_two_loops_in_turn():
    """Training and evaluation, over several epochs."""

    def work():
        job, found = Job(), []
        for _ in range(6):
            found += job.run(5)
            found += [float(job.net(x).max().item()) for x, _ in job.batches]
        return found

    assert agrees(work) > 15


def test_who_reads_in_between():
    def work():
        job, found = Job(), []
        for i in range(20):
            x, y = job.batches[i % 3]
            with autograd.record():
                out = job.net(x)
                found.append(float(out.sum().item()))
                loss = job.loss(out, y)
            loss.backward()
            found.append(float(abs(job.net[0].weight.grad()).max().item()))
            job.trainer.step(5)
        return found

    assert agrees(work) > 15


def test_a_loop_that_reads_later_runs_round_by_round():
    """Inference whose results are kept: a round is a sequence, and nothing waits for the end of the loop."""
    net = nn.HybridSequential()
    net.add(nn.Dense(4, in_units=3), *(nn.Dense(4, in_units=4, activation="tanh") for _ in range(40)))
    net.initialize()
    xs = [mx.np.random.normal(size=(2, 3)) for _ in range(14)]
    want = [net(x).asnumpy() for x in xs]

    def work():
        outs, waiting = [], []
        for x in xs:
            outs.append(net(x))
            waiting.append(mx.engine.bulk_counts())
            assert bulk.wait(100) and mx.rtc.wait(100)
        return outs, waiting

    (outs, counts), runs = programs(work)
    assert runs >= 2 and counts[-1]["lists"] - counts[2]["lists"] >= 10
    for out, w in zip(outs, want, strict=True):
        alike(out.asnumpy(), w)


def test_results_that_are_kept_are_there():
    def work():
        job, kept = Job(), []
        for i in range(18):
            x, y = job.batches[i % 3]
            with autograd.record():
                hidden = job.net[0](x)
                loss = job.loss(job.net[1:](hidden), y)
            loss.backward()
            job.trainer.step(5)
            kept.append((hidden, hidden[:2].reshape(-1), loss))
        return [a.asnumpy().ravel() for group in kept for a in group]

    want = work()
    got, runs = programs(work)
    assert runs > 6
    for a, b in zip(got, want, strict=True):
        alike(a, b)


@pytest.mark.parametrize("case", [{"hybridize": True}, {"req": "add"}])
def test_other_ways_to_train(case):
    want = Job(**case).run(16)
    got, _ = programs(lambda: Job(**case).run(16))
    alike(got, want)


def test_draws_are_those_without_replay():
    def work():
        mx.random.seed(3)
        found = []
        for i in range(14):
            x = mx.np.random.normal(size=(3, 4)) + mx.np.random.uniform(size=(4,))
            if i == 11:
                mx.random.seed(5)  # after the numbers of x are drawn, before those of y
            y = mx.npx.dropout(x, 0.5) if i % 2 else x.sum(axis=0) + mx.np.random.normal(size=(4,))
            found.append(y.asnumpy().sum())
        return found

    want = work()
    got, _ = programs(work)
    numpy.testing.assert_allclose(got, want, rtol=1e-5)


def test_a_schedule_of_ones_own():
    """Numbers that are others in every step do not keep it from being one program."""

    def work():
        rng = numpy.random.default_rng(0)
        x, w = (mx.np.array(rng.normal(size=s).astype("float32")) for s in ((8, 5), (5, 3)))
        w.attach_grad()
        found = []
        for i in range(30):
            with autograd.record():
                loss = (mx.npx.relu(x @ w) ** 2).mean()
            loss.backward()
            w -= 0.1 / (i + 1) * w.grad
            found.append(loss.item())
            ready()
        return found

    assert agrees(work) > 15


def test_an_exception_in_the_middle():
    def work():
        job = Job()
        found = job.run(12)
        for _ in range(3):
            try:
                with autograd.record():
                    out = job.net(job.batches[0][0])
                    raise KeyError
            except KeyError:
                found.append(float(out.mean().item()))
            found += job.run(2)
        return found

    agrees(work)


def test_gradients_of_gradients_and_graphs_that_are_kept():
    def work():
        x, found = mx.np.linspace(0.1, 1, 12).reshape(3, 4), []
        x.attach_grad()
        for _ in range(14):
            with autograd.record():
                y = (mx.np.tanh(x) * x).sum(axis=1)
                (g,) = autograd.grad([y.sum()], [x], create_graph=True, retain_graph=True)
                z = (g**2).sum()
            z.backward(retain_graph=True)
            first = x.grad.copy()
            z.backward()
            found += [first.asnumpy(), x.grad.asnumpy(), z.asnumpy()]
        return found

    want = work()
    got, _ = programs(work)
    for a, b in zip(got, want, strict=True):
        alike(a, b)


@given(st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_random_programs_do_not_show_it(seed):
    want = random_program(seed)
    before, mx.settings.fusion = mx.settings.fusion, False
    _core.forget_lists()
    try:
        for _ in range(LATER + 4):
            with mx.engine.replay():
                got = random_program(seed)
            for a, b in zip(got, want, strict=True):
                numpy.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    finally:
        mx.settings.fusion = before


def test_it_is_off_where_nobody_asked():
    before = mx.engine.bulk_counts()["programs"]
    with mx.engine.bulk(0):
        Job().run(4)
    ready()
    assert bulk.wait(10) and mx.engine.bulk_counts()["programs"] == before
