"""Matrix products take in what the library does on the way: the activation behind, and the gradient of a bias.

    y = fully_connected(x, w, b), r = relu(y)      becomes   r = fully_connected_act(x, w, b)
    dw = matmul(transpose(g), x), db = sum(g, 0)   becomes   dw, db = matmul_sums(transpose(g), x), on a GPU

The first where nobody else reads y: in training a ReLU's gradient reads r, gelu_tanh's reads y, so that one is left to
inference. The second where g comes straight from a product, or from outside: what a pointwise operator makes is added
up by its own kernel (fusion.py), which has it in registers. On a GPU only where cuBLASLt has an algorithm.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ops.table import OPS
from ..ir import Graph, Node, Value
from .asking import answered
from .norm import Reading, in_order

ACTIVATIONS = ("relu", "gelu_tanh")
FLOATS = ("float32", "float16", "bfloat16")
MOVERS = ("concatenate", "paste")  # the gradients of split and of slices

Found = list[tuple[tuple[Node, Node], Node]]  # two nodes, and what stands for both


def absorb_into_products(g: Graph) -> Graph:
    """Rewrites the pairs that have the form."""
    found = _activations(g) + (_bias_gradients(g) if g.gpu >= 0 else [])
    if not found:
        return g
    fuse = algorithms_fuse([made for _, made in found], g.gpu) if g.gpu >= 0 else [True] * len(found)
    swapped = {pair[1]: made for (pair, made), yes in zip(found, fuse, strict=True) if yes}
    gone = {pair[0] for (pair, _), yes in zip(found, fuse, strict=True) if yes}
    g.nodes = [swapped.get(n, n) for n in g.nodes if n not in gone]
    return in_order(g)


def algorithms_fuse(nodes: Sequence[Node], gpu: int) -> Sequence[bool]:
    """Asks cuBLASLt about nodes that this pass makes."""
    return answered("matmul_fuses", nodes, gpu)


def _activations(g: Graph) -> Found:
    """(fully_connected, activation)."""
    reading, found = Reading(g), []
    for n in g.nodes:
        if n.op != "fully_connected" or n.outputs[0].dtype not in FLOATS:
            continue
        act = reading.only(n.outputs[0])
        if act is not None and act.op in ACTIVATIONS:
            x, w, bias = (*n.inputs, None)[:3]
            attrs = {"act": act.op, "flatten": n.attrs.get("flatten", True)}
            inputs = [x, w, None if n.attrs.get("no_bias") else bias]
            found.append(((n, act), Node("fully_connected_act", inputs, act.outputs, attrs, n.site)))
    return found


def _bias_gradients(g: Graph) -> Found:
    """(sum, product)."""
    reading, found = Reading(g), []
    products: dict[Value, Node] = {}  # by what they transpose
    for n in g.nodes:
        turned = reading.producers.get(n.inputs[0]) if n.op == "matmul" else None  # type: ignore[arg-type]
        if turned is not None and turned.op == "transpose" and len(n.outputs[0].shape) == 2 == len(n.values[1].shape):
            products.setdefault(turned.values[0], n)
    for n in g.nodes:
        product = products.get(n.inputs[0]) if n.op == "sum" else None  # type: ignore[arg-type]
        if product is None or not _is_direct(n.values[0], reading):
            continue
        sums, dw = n.outputs[0], product.outputs[0]
        if n.attrs.get("axis") in (0, (0,)) and sums.shape == dw.shape[:1] and sums.dtype == dw.dtype in FLOATS:
            made = Node("matmul_sums", list(product.inputs), [dw, sums], {}, product.site)
            found.append(((n, product), made))
            del products[n.values[0]]
    return found


def _is_direct(v: Value, reading: Reading) -> bool:
    """True if a product or somebody outside made what ``v`` shows."""
    n = reading.producers.get(v)
    while n is not None and n.body is None and OPS[n.op].kind == "view":
        n = reading.producers.get(n.inputs[0])  # type: ignore[arg-type]
    return n is None or n.form == "library" or n.op in MOVERS
