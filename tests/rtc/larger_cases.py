"""Operands for rows that fill several warps and blocks of a GPU, do not divide by anything, or are empty.

In the words of minimx/ops/samples.py, by row. The table's own samples have a handful of elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from table_checks import generator

from minimx.ops.dtypes import ALL
from minimx.ops.samples import Ints, Positive, case

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
        case((70, 33), Ints((70,), 33), smoothing=0.1, wide=True),
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
        case((6, 5, 14, 14), None, None, axes=3),
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
