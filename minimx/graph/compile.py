"""From a traced function to programs: cleans the joint graph, cuts it into forward and backward, fuses and lowers both.

The joint graph holds the forward nodes and, where a gradient is wanted, the nodes that the rows' gradient rules added.
What the forward outputs need is the forward half; the rest is the backward half, and the values it reads across the
cut are the saved set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..config import settings
from ..ndarray import ndarray
from ..ops.table import OPS
from .ir import Graph, Node, Value
from .passes.cleanup import common_subexpressions, dead_code, fold_constants, identities
from .passes.conv_stats import absorb_statistics
from .passes.inference import fold_norm
from .passes.layout import assign_layouts
from .passes.layout_gpu import channels_last
from .passes.looks import look_at_sources
from .passes.norm import absorb_relu
from .passes.norm_pool import absorb_pools
from .passes.pairs import absorb_pairs
from .passes.pieces import join_pieces
from .passes.products import absorb_into_products
from .passes.recompute import recomputed
from .passes.wide_reads import absorb_casts
from .prepare import Split, split
from .trace import Gradient, Traced, differentiate, trace
from .watch import noted

Pass = Callable[[Graph], Graph]
JOINT: tuple[Pass, ...] = (
    dead_code,
    identities,
    fold_constants,
    common_subexpressions,
    join_pieces,
    absorb_casts,
    dead_code,
    channels_last,
    look_at_sources,
    fold_norm,
    absorb_relu,
    absorb_statistics,
    absorb_pairs,
    absorb_pools,
    absorb_into_products,
    assign_layouts,
    dead_code,
)


@dataclass
class Compiled:
    """The graphs of one signature. saved: outputs of ``forward`` beyond the function's own, inputs of ``backward``.

    backward's inputs are: ``kept`` (indices of forward inputs), the saved values, then one head gradient per output.
    gradients: for each forward input the place among backward's outputs, or None. prepared: where parts of the forward
    graph are run for many calls at once, those parts, and what ``forward`` is without them. unfused: backward before
    the passes that it gets on its own.
    """

    traced: Traced
    joint: Graph  # as traced, before the passes: what a gradient of the gradient is taken of
    forward: Graph
    backward: Graph | None
    outputs: int
    kept: list[int]
    heads: list[int]
    gradients: list[int | None]
    prepared: Split | None = None
    unfused: Graph | None = None

    def adding(self, places: Sequence[int]) -> Graph:
        """The backward graph that adds the gradients at these places to arrays, its further inputs, in place."""
        g = self.unfused.copy()  # type: ignore[union-attr]
        for made in [g.outputs[place] for place in places]:
            g.inputs.append(target := made.like())
            g.nodes.append(Node("add", [target, made], [total := made.like()], {}))
            g.writes.append((target, total))
        g.outputs = [v for place, v in enumerate(g.outputs) if place not in set(places)]
        return finished(g, "backward")


def compile_function(
    name: str,
    function: Callable,
    args: Sequence[ndarray],
    training: bool,
    wanted: Callable[[Traced], Sequence[bool]] | None,
    keeps: bool = False,
) -> Compiled:
    """Traces and compiles. ``wanted`` tells which of the traced graph's inputs need a gradient; None: no gradient.
    keeps: the caller can keep what is made of the captures alone (Compiled.prepared).
    """
    t = trace(name, function, args, training)
    needs = list(wanted(t)) if wanted is not None else []
    gradient = differentiate(t, needs, training) if any(needs) else Gradient([], [], [])
    joint = join(t, gradient)
    if keeps:
        joint.lasting = frozenset(joint.inputs[t.arguments :]) - {target for target, _ in joint.writes}
    noted("traced", joint)
    plain = joint.copy()
    return replace(cut(t, cleaned(joint), gradient), joint=plain)


def cleaned(joint: Graph) -> Graph:
    """The passes over forward and backward together."""
    for p in JOINT:
        if p is not assign_layouts or joint.gpu < 0:  # blocked layouts are oneDNN's
            joint = noted(p.__name__, p(joint).verify())
    return joint


def join(t: Traced, gradient: Gradient) -> Graph:
    """Forward and gradient nodes in one graph, whose outputs are the function's and then the gradients."""
    g = t.graph
    grads = [v for v in gradient.gradients if v is not None]
    return Graph(
        g.name,
        g.inputs + gradient.heads,
        list(g.nodes) + gradient.nodes,
        list(g.outputs) + grads,
        list(g.writes),
        gpu=g.gpu,
    )


def cut(t: Traced, joint: Graph, gradient: Gradient) -> Compiled:
    """Cuts the joint graph into the part that the outputs need and the rest."""
    n_out, n_in = len(t.graph.outputs), len(t.graph.inputs)
    outs, grads = joint.outputs[:n_out], joint.outputs[n_out:]
    inputs, heads = joint.inputs[:n_in], joint.inputs[n_in:]
    live = {*outs, *(v for _, v in joint.writes)}
    early: list[Node] = []
    late: list[Node] = []
    for n in reversed(joint.nodes):
        random = n.body is None and OPS[n.op].random
        if random or any(v in live for v in n.outputs):
            live.update(n.values)
            early.append(n)
        else:
            late.append(n)
    forward = replace(joint, inputs=inputs, nodes=early[::-1], outputs=list(outs), constants=dict(joint.constants))
    if not grads:
        parts = split(forward)
        if parts is not None:
            parts.prepare, forward = finished(parts.prepare, "prepare"), parts.rest
        return Compiled(t, joint, finished(forward, "forward"), None, n_out, [], [], [], parts)
    early, late = early[::-1], late[::-1]
    late = _with_views(recomputed(late, early, inputs, grads) if joint.gpu >= 0 else late, early)
    made = {v for n in late for v in n.outputs} | set(heads) | set(joint.constants)
    read = dict.fromkeys(v for n in late for v in n.values if v not in made)
    read |= dict.fromkeys(v for v in grads if v not in made)
    kept = [i for i, v in enumerate(inputs) if v in read]
    saved = [v for v in read if v not in set(inputs)]
    forward.outputs = [*outs, *saved]
    used_heads = [i for i, h in enumerate(heads) if any(h in n.values for n in late) or h in grads]
    backward = Graph(
        joint.name + ".backward",
        [inputs[i] for i in kept] + saved + [heads[i] for i in used_heads],
        late,
        list(grads),
        [],
        dict(joint.constants),
        joint.gpu,
    )
    places = iter(range(len(grads)))
    gradients = [None if v is None else next(places) for v in gradient.gradients]
    halves = finished(forward, "forward"), finished(backward.copy(), "backward")
    return Compiled(t, joint, *halves, n_out, kept, used_heads, gradients, None, backward)


def _with_views(late: list[Node], early: list[Node]) -> list[Node]:
    """Views of forward values are made again behind the cut: that costs nothing, saving them would copy."""
    producers = {v: n for n in early for v in n.outputs}
    made = {v for n in late for v in n.outputs}
    again: dict[Value, Value] = {}
    added: list[Node] = []

    def remade(v: Value) -> Value:
        n = producers.get(v)
        if v in made or n is None or not n.is_view or v.layout:
            return v
        if v not in again:
            source = remade(n.inputs[0])  # type: ignore[arg-type]
            again[v] = v.like()
            added.append(Node(n.op, [source, *n.inputs[1:]], [again[v]], n.attrs, n.site))
        return again[v]

    for n in late:
        n.inputs = [remade(x) if isinstance(x, Value) else x for x in n.inputs]
    return added + late


def finished(g: Graph, half: str) -> Graph:
    """The passes that a half, or a graph that is not cut, gets on its own."""
    passes: list[Pass] = [dead_code]
    if settings.fusion:
        from .passes.expand import expand
        from .passes.fusion import fuse
        from .passes.late import recompute_late
        from .passes.left_sums import absorb_left_sums
        from .passes.lone_casts import gather_casts
        from .passes.onto import add_onto
        from .passes.reshapes import move_reshapes
        from .passes.spread import spread_early

        passes += [spread_early, dead_code, move_reshapes, add_onto, expand, dead_code, recompute_late, fuse]
        passes += [absorb_left_sums, gather_casts]
    noted(f"{half}: cut", g)
    for p in passes:
        g = noted(f"{half}: {p.__name__}", p(g).verify())
    return g
