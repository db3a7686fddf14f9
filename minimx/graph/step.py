"""A whole training step as one graph: forward, backward and the optimizer's update, planned and captured together.

Nothing is cut, so nothing is saved from one program for the next: gradients live from where they are made to where they
are used, updates fuse with what makes the gradient, and memory is planned over all of it. Its user: gluon.TrainStep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..device import cpu
from ..ndarray import _core, ndarray
from ..ops.table import f
from .compile import cleaned, finished, join
from .ir import Graph, Node, Value
from .lower import lower
from .trace import differentiate, trace
from .watch import Snapshots, noted, watched


class Target(NamedTuple):
    """A variable of a step: the array, and the arrays that its update reads and writes besides (master, states).

    sum: what its gradients are added to, where the update reads their sum (grad_req "add").
    """

    weight: ndarray
    others: tuple[ndarray, ...]
    sum: ndarray | None = None


class Step:
    """The program of a step for arguments of one signature.

    loss: the function that is trained, of ``args``. update: a function of (operands, the targets' gradients, and then
    for each target its weight and its others) that writes the new values in place; operands are numbers that change
    from step to step. scale: what gradients are to be multiplied by, an array of shape (), or None for 1. ``missing``:
    places of targets that the loss does not depend on; with any there is no program.
    """

    def __init__(self, loss: Callable, args: Sequence[ndarray], targets: Sequence[Target], operands: ndarray,
                 update: Callable, scale: ndarray | None = None) -> None:  # fmt: skip
        t = trace("step", loss, args, True)
        variables = {_core.address(x.weight): i for i, x in enumerate(targets)}
        found = [variables.get(_core.address(x)) for x in t.captures]
        gradient = differentiate(t, [False] * t.arguments + [i is not None for i in found], True)
        place = {i: t.arguments + k for k, i in enumerate(found) if i is not None}
        gradients = {i: gradient.gradients[k] for i, k in place.items()}
        self.missing = [i for i in range(len(targets)) if gradients.get(i) is None]
        self.tree, self.arguments, self.outputs = t.tree, t.arguments, len(t.graph.outputs)
        if self.missing:
            return
        weights = [x.weight for x in targets]  # a gradient is of its weight's type
        arrays = [*weights, *(a for x in targets for a in (x.weight, *x.others))]
        u = trace("update", update, [operands, *arrays], False)
        g = join(t, gradient)
        g.outputs = list(t.graph.outputs)
        g.inputs = list(t.graph.inputs)
        sums = _added(g, targets, gradients)
        self.captures = [*t.captures, *sums, *_appended(g, u.graph, targets, place, gradients), *u.captures]
        if scale is None:
            with cpu():
                g.constants |= {h: f.ones(h.shape, h.dtype) for h in gradient.heads}
        else:
            g.inputs.append(given := Value((), "float32"))
            self.captures.append(scale)
            typed = {"float32": given} | {h.dtype: Value((), h.dtype) for h in gradient.heads if h.dtype != "float32"}
            casts = [Node("cast", [given], [v], {"dtype": dtype}) for dtype, v in typed.items() if v is not given]
            spread = [Node("broadcast_to", [typed[h.dtype]], [h], {"shape": h.shape}) for h in gradient.heads]
            g.nodes = [*casts, *spread, *g.nodes]
        self.traced = g.verify()
        self.graph = self.compiled()
        self.program = lower(self.graph)

    def compiled(self) -> Graph:
        """The graph after all passes."""
        return finished(cleaned(noted("traced", self.traced.copy())), "step")

    def passes(self) -> Snapshots:
        """The graph after each pass."""
        with watched() as seen:
            self.compiled()
        return seen

    def run(self, args: Sequence[ndarray], operands: ndarray) -> list[ndarray]:
        """One step; returns the leaves of the loss."""
        arrays = [operands if a is None else a for a in self.captures]
        return self.program.run([*args, *arrays], True, True, self.outputs)


def _added(g: Graph, targets: Sequence[Target], gradients: dict[int, Value | None]) -> list[ndarray]:
    """Adds gradients to the sums that targets have, which then stand for them; returns the arrays of these inputs."""
    arrays = []
    for i, target in enumerate(targets):
        made = gradients[i]
        if target.sum is not None and made is not None:
            g.inputs.append(before := made.like())
            g.nodes.append(Node("add", [before, made], [total := made.like()]))
            g.writes.append((before, total))
            gradients[i] = total
            arrays.append(target.sum)
    return arrays


def _appended(g: Graph, update: Graph, targets: Sequence[Target], place: dict[int, int],
              gradients: dict[int, Value | None]) -> list[ndarray | None]:  # fmt: skip
    """Puts the update behind ``g``; returns the arrays of the inputs that this adds. None stands for the operands."""
    numbers = iter(update.inputs)
    operands = next(numbers)
    new: dict[Value, Value] = {}
    inputs, added = [operands], list[ndarray | None]([None])
    new |= {next(numbers): gradients[i] for i in range(len(targets))}  # type: ignore[misc]
    for i, target in enumerate(targets):
        new[next(numbers)] = g.inputs[place[i]]
        others = [next(numbers) for _ in target.others]
        inputs += others
        added += target.others
    inputs += numbers  # what the rule captured
    update.replace(new)
    g.inputs += inputs
    g.nodes += update.nodes
    g.writes += [(new.get(v, v), value) for v, value in update.writes]
    return added


__all__ = ["Step", "Target"]
