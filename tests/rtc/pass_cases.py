"""Calls of the factories that no row's samples reach, since only passes or other factories ask for them.

Operands are such as the kernels meet, in both layouts; what the results must be is tested where the kernels are
(test_conv_stats.py, test_norm_pool.py, test_plain.py). These are for those who run every kernel: ../gpu/sanitize.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rtc.emulator import numpy_type
from rtc.recipe_cases import VIEWS, Call

DTYPES = ("float32", "float16", "bfloat16")
SHAPES = ((3, 24, 13, 11), (2, 5, 70, 1), (3, 32, 13, 11), (300, 16, 3, 3))
EPS = {"eps": 1e-3}
POOL = {"kind": "max", "kernel": [3, 3], "stride": [2, 2], "pad": [1, 1], **EPS}


def _drawn(shape: tuple, dtype: str, view: str, seed: int = 0) -> np.ndarray:
    return VIEWS[view](np.random.default_rng(seed).normal(0, 1, shape).astype(numpy_type(dtype)))


def _strides(x: np.ndarray) -> tuple[int, ...]:
    return tuple(s // x.itemsize for s in x.strides)


def _norms(shape: tuple, dtype: str, view: str) -> list[Call]:
    """A norm that takes in neighbours, and sums for it."""
    x, x2 = _drawn(shape, dtype, view), _drawn(shape, dtype, view, 1)
    vector = ((shape[1],), "float32")
    ones, sums, squares = np.ones(shape[1], "f4"), np.zeros(shape[1], "f4"), np.full(shape[1], x[:, 0].size, "f4")
    given = [ones, ones, sums, squares]  # gamma, beta, and sums as of mean 0 and variance 1
    whole = (shape, dtype, _strides(x))
    mask = ((shape[0] * -(-shape[1] // 16) * 16 * -(-int(np.prod(shape[2:])) // 8),), "uint8")
    calls: list[tuple[str, list, list[Any], dict]] = [
        ("channel_sums", [x], [vector] * 2, {}),
        ("batch_norm_fwd_sums", [x, *given, x2], [whole, vector, vector, mask], {**EPS, "relu": 1}),
        ("batch_norm_fwd_pair", [x, *given, x2, *given], [whole, mask, *[vector] * 4], {**EPS, "eps2": 1e-2}),
    ]
    pooled = (*shape[:2], *((n - 1) // 2 + 1 for n in shape[2:]))
    dy = _drawn(pooled, dtype, view)
    taps = VIEWS[view](np.random.default_rng(2).integers(0, 9, pooled).astype("u1"))
    outs = [(pooled, dtype, _strides(dy)), (pooled, "uint8", _strides(taps)), vector, vector]
    calls.append(("batch_norm_pool", [x, *given], outs, POOL))
    if view == "last_first" and shape[1] in (16, 32):  # its lanes of 8 channels must divide a block
        ins = [x, dy, taps, sums, ones, ones]  # mean, var, gamma
        calls.append(("batch_norm_bwd_pool", ins, [whole, vector, vector], POOL))
    return [Call(name, name, *call, view=view) for name, *call in calls]


def _products(dtype: str) -> list[Call]:
    a, b, bias = (_drawn(s, dtype, "plain") for s in ((2, 17, 33), (2, 33, 40), (40,)))
    return [Call("matmul_plain", "matmul_plain", ins, [((2, 17, 40), dtype)]) for ins in ([a, b], [a, b, bias])]


def pass_calls() -> list[Call]:
    """All of them, in the types that GPUs train in."""
    made = [Call("empty", "nothing", [], [((3, 4), "float32")])]
    for dtype in DTYPES:
        made += _products(dtype)
        made += [c for shape in SHAPES for view in ("plain", "last_first") for c in _norms(shape, dtype, view)]
    return made
