"""Matrix products take in what the library does on the way: the activation behind, and the gradient of a bias.

    y = fully_connected(x, w, b), r = relu(y)      becomes   r = fully_connected_act(x, w, b)
    y = matmul(a, b) + c, r = relu(y)              becomes   r = matmul_act(a, b, c), also without relu
    dw = matmul(transpose(g), x), db = sum(g, 0)   becomes   dw, db = matmul_sums(transpose(g), x), on a GPU

The first two where nobody else reads y: in training a ReLU's gradient reads r, gelu_tanh's reads y, so that one is left
to inference. A sum alone is left to the pointwise operators that read it, if there are some. The last where g comes
straight from a product, or from outside: what a pointwise operator makes is added up by its own kernel (fusion.py),
which has it in registers. On a GPU only where cuBLASLt has an algorithm that gains (csrc/cuda/matmul.cc).
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ops.table import OPS
from ..ir import Graph, Node, Value
from .asking import answered
from .reading import Reading, rewritten

ACTIVATIONS = ("relu", "gelu_tanh")
FLOATS = ("float32", "float16", "bfloat16")
MOVERS = ("concatenate", "paste")  # the gradients of split and of slices

Found = list[tuple[list[Node], Node]]  # nodes, and what stands for them in the place of the last


def absorb_into_products(g: Graph) -> Graph:
    """Rewrites the pairs that have the form."""
    found = activations(g) + (bias_gradients(g) if g.gpu >= 0 else [])
    if not found:
        return g
    gained = gains([made for _, made in found], g.gpu) if g.gpu >= 0 else [1.0] * len(found)
    swapped = {path[-1]: made for (path, made), gain in zip(found, gained, strict=True) if gain > 0}
    gone = {n for (path, _), gain in zip(found, gained, strict=True) if gain > 0 for n in path[:-1]}
    return rewritten(g, swapped, gone)


def gains(nodes: Sequence[Node], gpu: int) -> Sequence[float]:
    """Nanoseconds that one call of cuBLASLt gains at each of such passes' nodes; minus infinity where it has none."""
    return answered("matmul_gain", nodes, gpu)


def activations(g: Graph) -> Found:
    """Products with a bias and an activation, or with either."""
    reading, found = Reading(g), []
    for n in g.nodes:
        y, matrices = n.outputs[0], n.op == "fully_connected" or (n.op == "matmul" and _are_matrices(n))
        if not matrices or y.dtype not in FLOATS:
            continue
        path, (a, b, bias) = [n], (*n.inputs, None)[:3]
        bias = None if n.attrs.get("no_bias") else bias
        if n.op == "matmul" and (add := _bias_of(n, reading)) is not None:
            path.append(add)
            bias = next(v for v in add.values if v is not y)
        act = reading.only(path[-1].outputs[0])
        if act is not None and act.op in ACTIVATIONS:
            path.append(act)
        elif len(path) == 1 or any(r.op in OPS and OPS[r.op].kind == "elemwise" for r in _readers(path[-1], reading)):
            continue
        attrs = {"act": path[-1].op if path[-1] is act else ""}
        if n.op == "fully_connected":
            attrs["flatten"] = n.attrs.get("flatten", True)
        found.append((path, Node(n.op + "_act", [a, b, bias], path[-1].outputs, attrs, n.site)))
    return found


def _are_matrices(n: Node) -> bool:
    return all(len(v.shape) >= 2 for v in n.values)


def _bias_of(product: Node, reading: Reading) -> Node | None:
    """The addition of a vector to the rows of a product that nobody else reads."""
    y = product.outputs[0]
    add = reading.only(y)
    if add is None or add.op != "add" or len(add.values) != 2:
        return None
    fits = [v.shape == y.shape[-1:] and v.dtype == y.dtype for v in add.values if v is not y]
    return add if fits == [True] else None


def _readers(n: Node, reading: Reading) -> list[Node]:
    return reading.uses.get(n.outputs[0], [])


def bias_gradients(g: Graph) -> Found:
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
            found.append(([n, product], made))
            del products[n.values[0]]
    return found


def _is_direct(v: Value, reading: Reading) -> bool:
    """True if a product or somebody outside made what ``v`` shows."""
    n = reading.producers.get(v)
    while n is not None and n.is_view:
        n = reading.producers.get(n.inputs[0])  # type: ignore[arg-type]
    return n is None or n.form == "library" or n.op in MOVERS
