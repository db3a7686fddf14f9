"""TrainStep: forward, loss, backward and update as one compiled program, on a GPU one captured graph a step.

The usual three lines (``record``, ``backward``, ``trainer.step``) run three programs with gradients in memory between
them; this runs one, in which gradients are used where they are made and memory is planned over the whole
(minimx/graph/step.py). The numbers are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import autograd, np
from ..errors import ArgumentError, AutogradError, NotSupported
from ..graph.cached import MAX_SIGNATURES
from ..graph.step import Step, Target
from ..graph.trace import flatten, unflatten, zeros_for
from ..ndarray import _core
from .trainer import Trainer

__all__ = ["TrainStep"]


class TrainStep:
    """Trains ``net`` by ``trainer``, a step a call: ``step(data, label)`` is what these lines do, and returns the loss.

        with autograd.record():
            loss = loss_fn(net(data), label)
        loss.backward()
        trainer.step(batch_size)

    (with ``amp.scale_loss``, where the trainer has a loss scale).

    net: a Block whose code could be hybridized. loss: a function of (output, label), or None where net returns the loss
    itself. trainer: of net's parameters; its schedule, states and files work as ever.

    The first call runs the plain lines, which settles shapes and states; later ones the program of their signature.
    Gradients are not kept: ``parameter.grad()`` stays what it was, but with grad_req "add", where it is added to and
    the update reads the sum. Raises NotSupported for parameters on several devices, and what hybridized code raises
    where values decide the flow of Python.

    >>> import minimx as mx
    >>> net = mx.gluon.nn.Dense(1, in_units=2)
    >>> net.initialize(mx.init.One())
    >>> trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    >>> step = mx.gluon.TrainStep(net, mx.gluon.loss.L2Loss(), trainer)
    >>> x, y = mx.np.ones((4, 2)), mx.np.ones((4, 1))
    >>> [round(step(x, y).mean().item(), 3) for _ in range(3)]
    [0.5, 0.245, 0.12]
    """

    def __init__(self, net: Any, loss: Callable | None, trainer: Trainer) -> None:
        if not isinstance(trainer, Trainer):
            raise ArgumentError("TrainStep", "a gluon.Trainer", type(trainer).__name__, "Pass the trainer itself")
        self._net, self._loss, self._trainer = net, loss, trainer
        self._steps: dict[Any, Step] = {}
        self._operands: dict[int, Any] = {}  # by their number: the array, and the numbers in it
        self._settled = False
        self._last: Step | None = None  # that ran

    def __call__(self, *args: Any, batch_size: int | None = None) -> Any:
        """One step. The last of ``args`` is the label, where there is a loss; batch_size: the first extent of the first
        array, if it is not given.
        """
        leaves: list = []
        tree = flatten(args, leaves)
        if not leaves:
            raise ArgumentError("TrainStep", "arrays to train on", "none", "Pass data, and the label for the loss")
        if batch_size is None and not leaves[0].ndim:
            raise ArgumentError("TrainStep", "a first array with samples", "a single number", "Pass batch_size")
        size: int = leaves[0].shape[0] if batch_size is None else batch_size
        if not self._settled:
            return self._plainly(args, size)
        update = self._trainer._next_jobs(size)
        jobs = update.jobs
        optimizer = self._trainer.optimizer
        places, values = optimizer._fused.scalars(update, optimizer.rescale_grad)
        operands = self._numbers(values, jobs[0].weight.device)
        types = tuple((x.shape, x.dtype, x.device) for x in leaves)
        arrays = tuple(id(a) for j in jobs for a in (j.weight, *_others(j)))  # kept by their Step, so ids stay theirs
        sums = tuple((id(p), _core.address(p.grad())) for p in self._trainer._params if p.grad_req == "add")
        settings = (optimizer.clip_gradient, optimizer.scaling, _core.num_threads(), _core.precision_key())
        key = (repr(tree), types, places, arrays, sums, settings)
        step = self._steps.get(key)
        if step is None:
            if len(self._steps) >= MAX_SIGNATURES:
                del self._steps[next(iter(self._steps))]
            step = self._steps[key] = self._traced(tree, leaves, jobs, operands, optimizer.update_of(update, places))
        self._last = step
        return unflatten(step.tree, step.run(leaves, operands))

    def graph_passes(self, *args: Any) -> list[tuple[str, Any]]:
        """The graph of the whole step after each pass, as HybridBlock.graph_passes; ``graph.save_svg(path)`` draws one.

        args: arguments with which it has run as a program (called twice at least), by default the last ones. Raises
        ArgumentError where there is no such program.
        """
        return self._like("graph_passes", args)[0].passes()

    def fusion_report(self, *args: Any, time: bool = False) -> Any:
        """The FusionReport (HybridBlock.fusion_report) of the whole step, for arguments as above. time: its kernels are
        run a few times, on copies of what they write to.
        """
        from ..graph.report import step_report

        return step_report(*self._like("fusion_report", args), time)

    def _like(self, where: str, args: tuple) -> tuple[Step, list]:
        """The step for arguments like ``args``, or the last one, and arrays to run it on."""
        if not args and self._last is not None:
            return self._last, zeros_for(self._last.graph, self._last.arguments)
        leaves: list = []
        flatten(args, leaves)
        types = tuple((x.shape, x.dtype, x.device) for x in leaves)
        step = next((s for key, s in reversed(self._steps.items()) if key[1] == types), None)
        if step is None:
            rule, way_out = "arguments of a step that ran as a program", "Call the step twice with such arguments first"
            raise ArgumentError(f"TrainStep.{where}", rule, [(x.shape, x.dtype) for x in leaves], way_out)
        return step, leaves

    def _plainly(self, args: tuple, batch_size: int) -> Any:
        """The lines that a call stands for."""
        checked([p for _, p in self._trainer._trained()])
        with autograd.record():
            loss = self._forward(*args)
            scaled = self._trainer._scaled(loss)
        autograd.backward(scaled)
        self._trainer.step(batch_size)
        self._settled = True
        return loss

    def _forward(self, *args: Any) -> Any:
        return self._net(*args) if self._loss is None else self._loss(self._net(*args[:-1]), args[-1])

    def _numbers(self, values: list[float], device: Any) -> Any:
        """The array of the operands, always the same one; written to only when they change."""
        array, last = self._operands.get(len(values), (None, None))
        if array is None:
            array = np.zeros(len(values), dtype="float32", device=device)
        if values != last:
            array[...] = np.array(values, dtype="float32", device=device)
            self._operands[len(values)] = (array, values)
        return array

    def _traced(self, tree: Any, leaves: list, jobs: list, operands: Any, update: Callable) -> Step:
        sums = [p.grad() if p.grad_req == "add" else None for _, p in self._trainer._trained()]
        targets = [Target(j.weight, _others(j), total) for j, total in zip(jobs, sums, strict=True)]
        scale = self._trainer._loss_scale(jobs[0].weight.device)
        step = Step(lambda *xs: self._forward(*unflatten(tree, xs)), leaves, targets, operands, update, scale)
        if step.missing:
            names = ", ".join(p.label for p in (self._trainer._trained()[i][1] for i in step.missing))
            way_out = "Set grad_req='null' for what is not trained"
            raise AutogradError("TrainStep", "a loss that depends on every parameter", f"none on {names}", way_out)
        return step


def _others(job: Any) -> tuple:
    """What an update reads and writes beside weight and gradient, in the order in which it wants them."""
    return job.states if job.master is None else (job.master, *job.states)


def checked(parameters: list) -> None:
    """Raises NotSupported for parameters that a step as one program cannot train."""
    for p in parameters:
        if len(p.list_device()) > 1:
            got = f"{p.label} on {len(p.list_device())}"
            raise NotSupported("TrainStep", "parameters on one device", got, "Use backward and trainer.step")
