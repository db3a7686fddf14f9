"""Calls of factories to test recipes with: what the rows' plans make of the table's samples, and of larger operands.

A ``Call`` is what a factory is given, with NumPy operands. The table's samples have a handful of elements; LARGER has
shapes that fill several warps and blocks, do not divide by anything, or are empty. ``VIEWS`` are the ways in which an
operand may lie in memory where its plan does not ask for C order. What runs them: test_recipes.py.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rtc.emulator import numpy_type
from table_checks import generator, samples

from minimx.ops.dtypes import ALL, FLOATS
from minimx.ops.samples import Ints, Positive, case, drawn
from minimx.ops.table import OPS, Op, Plan, Spec


@dataclass
class Call:
    """One call of a factory. ins: arrays, and (number, dtype) for host scalars; outs: (shape, dtype)."""

    row: str
    factory: str
    ins: list
    outs: list[tuple]
    attrs: dict[str, Any] = field(default_factory=dict)
    random: bool = False
    contiguous: bool = False  # operands are in C order
    view: str = "plain"

    def __str__(self) -> str:
        ins = ", ".join(f"{x.dtype}{list(x.shape)}" if isinstance(x, np.ndarray) else str(x[0]) for x in self.ins)
        return f"{self.row} ({self.factory}, {self.view}): {ins} {self.attrs} -> {self.outs}"


# ---- how an operand lies in memory ----------------------------------------------------------------------------------


def _turned(x: np.ndarray) -> np.ndarray:
    """The first axis innermost, as after a transpose."""
    return np.asfortranarray(x)


def _reversed(x: np.ndarray) -> np.ndarray:
    """Negative strides along all axes."""
    back = (slice(None, None, -1),) * x.ndim
    return np.ascontiguousarray(x[back])[back]


def _spread(x: np.ndarray) -> np.ndarray:
    """Every second element of larger memory, from the second on."""
    if not x.ndim:
        return _moved(x)
    memory = np.zeros(tuple(2 * n + 1 for n in x.shape), x.dtype)
    view = memory[(slice(1, None, 2),) * x.ndim]
    view[...] = x
    return view


def _moved(x: np.ndarray) -> np.ndarray:
    """C order, but one element behind where an allocation begins."""
    memory = np.zeros(x.size + 1, x.dtype)
    memory[1:] = x.ravel()
    return memory[1:].reshape(x.shape)


def _broadcast(x: np.ndarray) -> np.ndarray:
    """The first element of the last axis, repeated by stride 0 (other values than x has)."""
    return np.broadcast_to(x[..., :1], x.shape) if x.ndim and x.size else x


def _last_first(x: np.ndarray) -> np.ndarray:
    """(N, C, ...) lying as (N, ..., C)."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if x.ndim > 2 else _turned(x)


VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "plain": lambda x: x,
    "turned": _turned,
    "reversed": _reversed,
    "spread": _spread,
    "moved": _moved,
    "broadcast": _broadcast,
    "last_first": _last_first,
}

# ---- larger operands, by row ----------------------------------------------------------------------------------------

_REDUCED = (
    case((5003,)),
    case((300, 67), axis=0),
    case((70, 301), axis=1),
    case((3, 5, 7, 2, 4), axis=(1, 3)),
    case((64, 3, 50), axis=(0, 2)),
    case((2, 130, 3), axis=1, keepdims=True),
    case((40000,)),
    case((4, 1), axis=1),
    case((3, 0), axis=0),
)
_LANES = (
    case((3, 5003)),
    case((70, 33)),
    case((2, 1025), axis=0),
    case((4, 130, 3), axis=1),
    case((5, 1)),
    case((0, 4)),
)
_POOLS = (
    case((2, 3, 20, 17), kernel=(3, 3), stride=(2, 2), pad=(1, 1)),
    case((2, 9, 8, 5), kernel=(2, 3), stride=(2, 2), layout="NHWC"),
    case((2, 7, 31), kernel=(4,), stride=(3,)),
    case((1, 2, 5, 6, 7), kernel=(2, 3, 2), pad=(1, 1, 0)),
    case((1, 2, 18, 18), kernel=(17, 16)),
    case((1, 3, 9, 9), kernel=(3, 3), stride=(2, 2), convention="full"),
)
_POOL_GRADS = tuple(
    case(out, shape=x, kernel=kernel, **more)
    for out, x, kernel, more in [
        ((2, 3, 10, 9), (2, 3, 20, 17), (3, 3), {"stride": (2, 2), "pad": (1, 1)}),
        ((2, 4, 3, 5), (2, 9, 8, 5), (2, 3), {"stride": (2, 2), "layout": "NHWC"}),
        ((2, 7, 10), (2, 7, 31), (4,), {"stride": (3,)}),
        ((1, 2, 2, 3), (1, 2, 18, 18), (17, 16), {}),
    ]
)
_UNPADDED = [(operands[0], attrs) for operands, attrs in _POOL_GRADS if "pad" not in attrs]


def _places(out: tuple, attrs: dict) -> np.ndarray:
    """Places of maxima in their windows, as max_pool gives them."""
    size = math.prod(attrs["kernel"])
    return generator("places").integers(0, size, out).astype("uint8" if size <= 255 else "int32")


_NORMED = [
    ((4, 5, 7, 9), 1),
    ((2, 3, 33, 40), 1),
    ((64, 10), 1),
    ((2, 70, 5, 5), 1),
    ((4, 5, 5, 24), -1),
    ((3, 7, 3), -1),
]


def _norm_cases(*parameters: Callable[[int], Any], more: Sequence[dict] = ({},)) -> tuple:
    return tuple(
        case(x, *(p(x[axis]) if p is not None else x for p in parameters), axis=axis, **attrs)
        for x, axis in _NORMED
        for attrs in more
    )


def _vector(c: int) -> Any:
    return (c,)


def _positive(c: int) -> Any:
    return Positive((c,))


LARGER: dict[str, tuple] = {
    **dict.fromkeys(("sum", "mean", "max"), _REDUCED),  # products of many numbers overflow, or do not, by their order
    **dict.fromkeys(("min", "any", "all", "nansum"), _REDUCED[:2]),
    "argmax": (*_REDUCED[:3], *_REDUCED[5:8]),
    "argmin": _REDUCED[:1],
    **{
        name: (case((3, 5003), axis=1), case((300, 7), axis=0), case((4, 130, 3), axis=1), case((0, 3), axis=0))
        for name in ("cumsum", "cumprod")
    },
    **dict.fromkeys(("softmax_of", "log_softmax_of"), _LANES),
    **{
        name: tuple(case(c[0][0], c[0][0], **c[1]) for c in _LANES)
        for name in ("softmax_backward", "log_softmax_backward")
    },
    "cross_entropy": (
        case((3, 5003), Ints((3,), 5003)),
        case((70, 33), Ints((70,), 33), smoothing=0.1),
        case((4, 130, 3), Ints((4, 3), 130), axis=1),
    ),
    "cross_entropy_backward": (
        case((3,), (3, 5003), Ints((3,), 5003), Positive((3,))),
        case((70,), (70, 33), Ints((70,), 33), Positive((70,)), smoothing=0.1),
        case((4, 3), (4, 130, 3), Ints((4, 3), 130), Positive((4, 3)), axis=1),
    ),
    "row_norm": (
        case((70, 33), (33,), (33,)),
        case((3, 5003), (5003,), None),
        case((2, 3, 768), (768,), (768,), rms=True),
        case((300, 4), None, None),
        case((4, 1), (1,), (1,)),
    ),
    "row_norm_backward": (
        case((70, 33), (70, 33), (70,), Positive((70,)), (33,)),
        case((3, 5003), (3, 5003), (3,), Positive((3,)), (5003,)),
        case((2, 3, 768), (2, 3, 768), np.zeros((2, 3)), Positive((2, 3)), (768,), rms=True),
        case((700, 4), (700, 4), (700,), Positive((700,)), (4,)),
        case((300, 40), (300, 40), (300,), Positive((300,)), None),
    ),
    "batch_norm_train": _norm_cases(_vector, _vector),
    "batch_norm_infer": _norm_cases(_vector, _vector, _vector, _positive),
    "batch_norm_grad": _norm_cases(None, _vector, _positive, _vector, more=({}, {"global_stats": True})),
    "max_pool": _POOLS,
    "avg_pool": (*_POOLS, case((2, 3, 20, 17), kernel=(3, 3), stride=(2, 2), pad=(1, 1), include_pad=False)),
    "avg_pool_grad": _POOL_GRADS,
    "max_pool_grad": tuple(case(out, _places(out, more), **more) for out, more in _UNPADDED),
    "max_pool_gather": tuple(
        case(more["shape"], _places(out, more), **{k: v for k, v in more.items() if k != "shape"})
        for out, more in _UNPADDED
    ),
    "take": (
        case((100, 50), Ints((70,), 100), axis=0),
        case((100, 50), Ints((7, 11), 90, -100), axis=1, mode="wrap"),
        case((3, 40, 5), Ints((301,), 40), axis=1),
        case((1000,), Ints((700,), 2000, -1000), axis=0, mode="clip"),
        case((7, 64), Ints((0,), 7), axis=0),
    ),
    "take_static": (case((40, 33), axis=0, indices=tuple(range(0, 40, 3))), case((33, 40), axis=1, indices=(39, 0, 7))),
    "put": (
        case((500, 8), Ints((500,), 20), shape=(20, 8)),
        case((3, 70, 5), Ints((70,), 40), (3, 40, 5), shape=(3, 40, 5), axis=1),
        case((300,), np.arange(300)[::-1].copy(), (1000,), shape=(1000,), how="set"),
        case((40, 33), Ints((40,), 7), (7, 33), shape=(7, 33), how="set"),
        case((700,), Ints((700,), 3), shape=(3,)),
        case((0, 3), Ints((0,), 3), shape=(4, 3)),
    ),
    "put_static": (case((40, 33), axis=0, indices=tuple(i % 7 for i in range(40)), n=9),),
    "gather_elements": (
        case((70, 33), Ints((70, 5), 33), axis=1),
        case((70, 33), Ints((300, 33), 70), axis=0),
        case((3, 20, 7), Ints((3, 50, 7), 30, -20), axis=1, mode="clip"),
    ),
    "put_elements": (
        case((70, 50), Ints((70, 50), 9), shape=(70, 9)),
        case((300, 33), Ints((300, 33), 20), (20, 33), shape=(20, 33), axis=0),
    ),
    "ravel_index": (case([Ints((300, 1), 40), Ints((50,), 7), Ints((300, 50), 9)], dims=(40, 7, 9)),),
    "one_hot": (case(Ints((300,), 1005, -3), depth=1000), case(Ints((7, 9), 5), depth=5, on_value=2.5, off_value=-1.0)),
    "paste": (
        case((40, 33), None, shape=(50, 70), start=(3, 2), step=(1, 2), value=3),
        case((40, 33), (50, 70), shape=(50, 70), start=(45, 69), step=(-1, -2)),
        case(
            (5, 1, 33),
            (6, 7, 40, 33),
            shape=(6, 7, 40, 33),
            start=(0, 1, 2, 0),
            step=(2, 1, 3, 1),
            region=(3, 5, 8, 33),
        ),
        case((33,), None, shape=(33,), start=(0,), step=(1,)),
        case((), (300,), shape=(300,), start=(0,), step=(1,), region=(300,)),
    ),
    "concatenate": (
        case([(40, 33), (7, 33), (1, 33)]),
        case([(40, 33), (40, 1), (40, 64)], axis=1),
        case([(3, 4, 5)] * 40, axis=1),
        case([(300,), (7, 3)], axis=None),
        case([(2, 8), (0, 8), (3, 8)]),
    ),
    "argsort_to": (
        case((4, 1000)),
        case(Ints((3, 300), 5)),
        case((2, 2049), k=10, descending=True),
        case((500, 3)),
        case((2, 1)),
    ),
    "arange": (case(start=5003), case(start=-3, stop=700, step=7), case(start=0.5, stop=90.25, step=0.125)),
    "eye": (case(70, 33, k=-2), case(40)),
    "zeros": (case(shape=(300, 7)),),
    "ones": (case(shape=(300, 7)), case(shape=(0, 3))),
    "filled_with": (case((33,), shape=(40, 33)), case((40, 1), shape=(40, 33)), case(2.5, shape=(1003,))),
    "dropout_train": (case((1003,), p=0.3), case((40, 33), p=0.0), case((7, 5, 3), p=1.0)),
    "uniform": (case(-1.0, 2.5, size=(1003,)), case((7, 1), (5,), size=(3, 7, 5))),
    "normal": (case(0.5, 2.0, size=(1003,)), case((7, 1), Positive((5,)), size=(3, 7, 5))),
    "randint_between": (case(-5, 1000, size=(1003,)), case(0, 2**40, size=(300,))),
    "bernoulli": (case(0.3, size=(1003,)), case(np.linspace(0, 1, 50), size=(20, 50))),
    "random_exponential": (case(2.0, size=(1003,)),),
    "random_poisson": (case(3.5, size=(303,)), case(np.array([0.5, 40.0]), size=(50, 2))),
    "random_rayleigh": (case(2.0, size=(303,)),),
    "random_weibull": (case(1.5, size=(303,)),),
    "random_pareto": (case(3.0, size=(303,)),),
    "random_power": (case(2.0, size=(303,)),),
    "random_laplace": (case(0.5, 2.0, size=(303,)),),
    "random_gumbel": (case(0.5, 2.0, size=(303,)),),
    "random_logistic": (case(0.5, 2.0, size=(303,)),),
    "random_gamma": (case(0.7, 2.0, size=(303,)), case(np.array([0.3, 5.0]), 1.0, size=(50, 2))),
    "random_beta": (case(0.7, 2.0, size=(303,)),),
    "philox": (case(Ints((70, 6), 2**32)),),
    "cast": tuple(case((40, 33), dtype=d) for d in ALL),
    "copy": (case((40, 33)), case((5, 33, 40)), case((2, 3, 4, 5, 6)), case((0, 3))),
    "add": (case((40, 33), (40, 33)), case((7, 40, 33), (40, 1)), case((5003,), ()), case((3, 0), (1,))),
    "multiply": (case((40, 33), 2.5), case((2, 1, 5, 1, 7), (3, 1, 6, 1))),
    "where": (case(Ints((40, 33), 2), (33,), (40, 1)),),
    "gelu": (case((40, 64)), case((40, 65))),
    "exp": (case((5, 7, 64)),),
    "less": (case((40, 33), (33,)),),
}

# Rows of movement, which have no types of their own in the table: all are moved alike.
MOVES = ("take", "take_static", "put", "put_static", "gather_elements", "put_elements", "paste", "concatenate", "cast",
         "copy", "argsort_to", "filled_with")  # fmt: skip


def dtypes(row: str) -> tuple[str, ...]:
    """The types that a row's recipes are tested with."""
    op = OPS[row]
    if op.row.dtypes:
        return tuple(op.row.dtypes)
    if (
        op.kind == "random"
        and row != "dropout_train"
        or row in ("philox", "ravel_index", "zeros", "ones", "arange", "eye")
    ):
        return ("float32",)
    return ALL if row in MOVES else FLOATS


# ---- from a row to calls --------------------------------------------------------------------------------------------


def _operands(op: Op, operands: Sequence) -> list:
    """One operand a place, as plans see them: lists spread out, trailing optional ones None."""
    flat = [v for x in operands for v in (x if isinstance(x, list) else [x])]
    given = [x.item() if isinstance(x, np.generic) else x for x in flat]
    lists = any(p.arrays for p in op.operands)
    return given if lists else given + [p.default for p in op.operands[len(given) :]]


def _attributes(op: Op, attrs: dict) -> dict:
    return {p.name: p.default for p in op.attributes if not p.required} | attrs


def _spec(x: Any) -> Spec | None:
    if x is None:
        return None
    if isinstance(x, np.ndarray):
        return Spec(x.shape, x.dtype.name, tuple(s // x.itemsize for s in x.strides))
    return Spec((), {bool: "bool", int: "int64", float: "float64"}[type(x)], (), True)


def _cast(x: Any, dtype: str) -> Any:
    if x is None or (isinstance(x, np.ndarray) and not dtype):
        return x
    if not isinstance(x, np.ndarray):
        return (x, dtype or _spec(x).dtype)
    with np.errstate(all="ignore"):
        return x.astype(numpy_type(dtype))


def call_of(row: str, operands: Sequence, attrs: dict, dtype: str, view: str = "plain") -> Call | None:
    """What the runtime would ask of a factory for a call of a row; None where it needs no kernel (a view)."""
    op = OPS[row]
    if not any(p.arrays for p in op.operands):  # attributes may be given by position, too
        named = zip((p.name for p in op.attributes), operands[len(op.operands) :], strict=False)
        operands, attrs = operands[: len(op.operands)], dict(named) | attrs
    attrs = _attributes(op, attrs)
    xs = [x.astype(numpy_type(dtype)) if dtype == "bfloat16" and isinstance(x, np.ndarray) and x.dtype == "float32"
          else x for x in _operands(op, operands)]  # fmt: skip
    plan: Plan = op.plan([_spec(x) for x in xs], attrs)
    casts = [*plan.casts, *[""] * len(xs)]
    xs = [_cast(x, c) for x, c in zip(xs, casts, strict=False)]
    if not plan.contiguous:
        xs = [VIEWS[view](x) if isinstance(x, np.ndarray) else x for x in xs]
        seen = [_spec(x[0]) if isinstance(x, tuple) else _spec(x) for x in xs]
        plan = op.plan(seen, attrs)
    else:
        xs = [(_moved(x) if view == "moved" else np.ascontiguousarray(x).reshape(x.shape)) if isinstance(x, np.ndarray)
              else x for x in xs]  # fmt: skip
    if not plan.kernel:
        return None
    outs = [(tuple(shape), d) for shape, d in plan.outs]
    ins = [x for x in xs if x is not None]
    return Call(row, plan.kernel, ins, outs, dict(plan.attrs), plan.random, plan.contiguous, view)


def rows() -> Iterator[Op]:
    """Rows that have kernels."""
    return (op for op in OPS.values() if op.kind not in ("composite", "host", "view"))


def _drawn(row: str, dtype: str) -> tuple[list, list]:
    """The table's samples and those of LARGER."""
    from table_cases import SAMPLES

    known = samples(row, dtype) if OPS[row].row.samples or row in SAMPLES else []
    return known, drawn(*LARGER.get(row, ()))(dtype, generator("larger", row, dtype))


def calls(row: str, dtype: str, every_view: bool = False) -> list[Call]:
    """Calls of one row in one type. A sample of the table is seen in one way, a larger one also as it is; or all."""
    known, larger = _drawn(row, dtype)
    out = []
    for n, (operands, attrs) in enumerate(known + larger):
        plain = call_of(row, operands, attrs, dtype)
        if plain is None:
            continue
        views = ["plain", "moved"] if plain.contiguous else list(VIEWS)
        if not every_view:
            views = views[:1] if n == 0 else [views[1 + (n + zlib.crc32(f"{row}{dtype}".encode())) % (len(views) - 1)]]
            views += ["plain"] * (n >= len(known))
        out += [call_of(row, operands, attrs, dtype, view) for view in views]
    return out
