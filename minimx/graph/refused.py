"""What a library, or a kernel of the build's own, was not given to do: reasons for edges that end at one.

A pass (passes/products.py, inference.py, conv_stats.py) takes a neighbour into a library's call where the library has
one that gains. Of a finished graph the passes' own finders find the places again that they left; asking a second time
costs nothing, since answers are kept. Other edges: apart.py.
"""

from __future__ import annotations

import math

from .ir import Graph, Node, Value
from .passes import conv_stats, inference, products

# What kernels take in that are not written here: pointwise rows behind them, where nobody else reads what lies between.
_PRODUCT = ("add", "relu", "gelu_tanh")
_WITH_SUM = ("add", "relu")
TAKES = {
    "convolution": _WITH_SUM,
    "matmul": _PRODUCT,
    "fully_connected": _PRODUCT[1:],
    "batch_norm_train": _WITH_SUM,
    "batch_norm_infer": _WITH_SUM,
}

Refusals = dict[tuple[Value, str], str]  # by what a library makes and the row that reads it


def refusals(g: Graph) -> Refusals:
    """What a GPU's libraries were asked to take in and did not, with the answer."""
    if g.gpu < 0:
        return {}
    flat = unfused(g)
    taken = [(path[0].outputs[0], path[1], made) for path, made in products.activations(flat) if len(path) > 1]
    taken += [(path[0].values[0], path[0], made) for path, made in products.bias_gradients(flat)]
    paths = inference.paths_of(flat)
    relus = [(c.outputs[0], add or relu, inference.with_relu(c, add, relu)) for c, add, relu in paths]
    sums = [(c.outputs[0], norm, conv_stats.with_sums(c)) for c, norm in conv_stats.sites_of(flat)]
    asked = ((products.gains, taken), (inference.engines_fuse, relus), (conv_stats.statistics_pay, sums))
    found: Refusals = {}
    for ask, places in asked:
        answers = ask([made for *_, made in places], g.gpu) if places else []
        found |= {
            (v, reader.op): _told(made, answer)
            for (v, reader, made), answer in zip(places, answers, strict=True)
            if answer <= 0
        }
    return found


def _told(made: Node, answer: float) -> str:
    """An answer in words: False of cuDNN, of cuBLASLt a gain in nanoseconds, or minus infinity."""
    if answer is False:
        return f"cuDNN has no engine for {made.op} that pays"
    if math.isinf(answer):
        return f"cuBLASLt has no algorithm for {made.op}"
    return f"{made.op} of cuBLASLt loses {-answer / 1e3:.1f} us against two kernels"


def unfused(g: Graph) -> Graph:
    """The graph with the members of groups in their places."""
    nodes = []
    for n in g.nodes:
        if n.body is None:
            nodes.append(n)
            continue
        outer = dict(zip((*n.body.inputs, *n.body.outputs), (*n.values, *n.outputs), strict=True))
        for m in n.body.nodes:
            inputs = [outer.get(x, x) if isinstance(x, Value) else x for x in m.inputs]
            nodes.append(Node(m.op, inputs, [outer.get(v, v) for v in m.outputs], m.attrs, m.site))
    return Graph(g.name, g.inputs, nodes, g.outputs, g.writes, g.constants, g.gpu)


def left_out(p: Node, v: Value, r: Node) -> str:
    """Why ``p``, which is no member of groups, has not taken in ``r``, which reads ``v``."""
    takes = TAKES.get(p.op, ()) if v is p.outputs[0] else ()
    if r.op in takes:
        return f"{p.op} takes in {r.op} where nobody else reads what lies between, and types and shapes are its own"
    return f"{p.op} takes in {' and '.join(takes) or 'nothing more'} behind it, not {r.op}"


def fed(r: Node) -> str:
    """Why ``r``, which is no member of groups, reads what a pointwise row or a reduction makes."""
    return f"{r.op} reads what is in memory: it takes in nothing before it"
