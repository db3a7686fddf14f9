"""The checks that every row of the table goes through: values, gradients, second gradients, eager against hybridized.

Each raises AssertionError with the numbers. That they can fail is shown in test_teeth.py; test_table.py calls them.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from table_cases import REFERENCES, SAMPLES

import minimx as mx
from minimx import autograd
from minimx.gluon import HybridBlock
from minimx.ndarray import _core
from minimx.ops.dtypes import is_float
from minimx.ops.table import OPS, f

# Relative to the largest element of the reference: (values, gradients by differences)
TOLERANCE = {"float64": 1e-11, "float32": 3e-5, "float16": 4e-3, "bfloat16": 3e-2}
NUMPY = {"bfloat16": np.dtype(ml_dtypes.bfloat16)}


def generator(*seed: str) -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(zlib.crc32("/".join(seed).encode()))


def samples(name: str, dtype: str) -> list[tuple[list, dict]]:
    """Sample calls of a row: NumPy operands (of the type under test where they are real) and attributes."""
    make = OPS[name].row.samples or SAMPLES.get(name)
    make = SAMPLES.get(name, make)
    return [(list(operands), attrs) for operands, attrs in make(dtype, generator(name, dtype))]


def tree_map(function: Callable, x: Any) -> Any:
    """``function`` on every NumPy or minimx array of nested lists and tuples."""
    if isinstance(x, (list, tuple)):
        return type(x)(tree_map(function, v) for v in x)
    return function(x) if isinstance(x, (np.ndarray, np.generic, mx.np.ndarray)) else x


def leaves(x: Any) -> list:
    """The arrays (and numbers) of nested lists and tuples, in order."""
    if isinstance(x, (list, tuple)):
        return [leaf for v in x for leaf in leaves(v)]
    return [x]


def on_device(x: Any, dtype: str) -> Any:
    """NumPy arrays as minimx arrays; those drawn for the type under test get it."""

    def convert(a: np.ndarray) -> mx.np.ndarray:
        drawn = dtype == "bfloat16" and a.dtype == "float32"
        return mx.np.array(a, dtype=dtype if drawn else a.dtype.name)

    return tree_map(convert, x)


def to_numpy(x: Any) -> Any:
    """minimx arrays as NumPy's; 16-bit floats as float64, exactly."""
    return tree_map(
        lambda a: a.asnumpy().astype("float64") if str(a.dtype) in ("float16", "bfloat16") else a.asnumpy(), x
    )


def widened(x: Any) -> Any:
    """Real operands in float64, so that references do not round."""
    return tree_map(lambda a: a.astype("float64") if a.dtype.kind == "f" else a, x)


def reference(name: str) -> Callable | None:
    """The independent reference of a row, a function of NumPy arrays; None where it has none, or points."""
    against = REFERENCES.get(name, OPS[name].row.against)
    if not isinstance(against, str):
        return against if callable(against) else None
    module, _, function = against.rpartition(".")
    try:
        return getattr(importlib.import_module(module), function, None)
    except (ImportError, ValueError):
        return None


def close(got: Any, want: Any, tolerance: float, what: str) -> None:
    """All leaves agree to ``tolerance`` relative to the largest element; None in ``want`` is not compared."""
    got, want = leaves(got), leaves(want)
    assert len(got) == len(want), f"{what}: {len(got)} results, expected {len(want)}"
    for g, w in zip(got, want, strict=True):
        if w is None:
            continue
        g, w = np.asarray(g), np.asarray(w)
        assert g.shape == w.shape, f"{what}: shape {g.shape}, expected {w.shape}"
        if g.dtype.kind in "bui" and w.dtype.kind in "bui":
            np.testing.assert_array_equal(g, w.astype(g.dtype), err_msg=what)
            continue
        finite = np.abs(w[np.isfinite(w)].astype("float64"))
        scale = max(finite.max(initial=0), 1e-3)
        np.testing.assert_allclose(
            g.astype("float64"), w.astype("float64"), rtol=0, atol=tolerance * scale, err_msg=what
        )


def tolerance(dtype: str, made: Any) -> float:
    """What results may differ by: the coarsest of the types involved counts."""
    types = [dtype, *(str(y.dtype) for y in leaves(made) if isinstance(y, mx.np.ndarray))]
    return max(TOLERANCE.get(t, 0.0) for t in types) or TOLERANCE["float32"]


# --- values ------------------------------------------------------------------------------------------------------


def check_values(name: str, dtype: str, function: Callable | None = None) -> int:
    """Every sample call against the row's reference; returns how many were compared."""
    function, against = function or getattr(f, name), reference(name)
    compared = 0
    for operands, attrs in samples(name, dtype):
        arrays = on_device(operands, dtype)
        made = function(*arrays, **attrs)
        got = to_numpy(made)
        if against is None:
            continue
        with np.errstate(all="ignore"):
            want = against(*widened(to_numpy(arrays)), **attrs)
        close(got, want, tolerance(dtype, made), f"{name}[{dtype}] {shapes(operands)} {attrs}")
        compared += 1
    return compared


def check_points(name: str) -> None:
    """Hand-checked points: [(x, y), ...] or [((x1, x2), y), ...]."""
    for x, y in OPS[name].row.against:
        xs = [mx.np.array(v, dtype="float64") for v in (x if isinstance(x, tuple) else (x,))]
        close(to_numpy(getattr(f, name)(*xs)), np.asarray(y), 1e-12, f"{name}{x}")


def check_twin(name: str, dtype: str) -> None:
    """An elementwise row's kernel against its own lambda on NumPy arrays."""
    for operands, _ in samples(name, dtype):
        arrays, row = on_device(operands, dtype), OPS[name]
        operand_list = widened(to_numpy(arrays))
        if any(p.default is None for p in row.params[len(operand_list) :]):  # optional ones left out
            row = row.variant([i < len(operand_list) for i in range(len(row.params))])
        made = getattr(f, row.name)(*arrays)
        with np.errstate(all="ignore"):
            want = np.asarray(row.reference(*operand_list))
        close(to_numpy(made), want, tolerance(dtype, made), f"{row.name}[{dtype}] {shapes(operands)}")


def shapes(operands: Sequence) -> list:
    """For messages."""
    return [getattr(x, "shape", x) for x in leaves(operands)]


# --- gradients by differences ------------------------------------------------------------------------------------

STEP = {"float64": 1e-5, "float32": 4e-3}
NEAR = {"float64": 2e-6, "float32": 1e-2}  # what a difference quotient can be asked to agree to


def _real(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


class Probe:
    """A call as a scalar function of its real operands: sum over real outputs of <output, head>."""

    def __init__(
        self, function: Callable, operands: Sequence, attrs: dict, rng: np.random.Generator, heads: Sequence[int] | None
    ):
        self.function, self.attrs, self.operands, self.rng = function, attrs, list(operands), rng
        self.flat = leaves(self.operands)
        self.active = [i for i, x in enumerate(self.flat) if _real(x)]
        self.outputs = heads
        made = self.reals(self.call(self.flat))
        self.heads = [rng.uniform(0.5, 1.5, y.shape).astype(y.dtype.name) for y in made]

    def call(self, flat: Sequence) -> Any:
        left = iter(flat)

        def rebuild(x: Any) -> Any:
            return type(x)(rebuild(v) for v in x) if isinstance(x, (list, tuple)) else next(left)

        arrays = [x if isinstance(x, mx.np.ndarray) or not isinstance(x, np.ndarray) else mx.np.array(x) for x in flat]
        left = iter(arrays)
        return self.function(*rebuild(self.operands), **self.attrs)

    def reals(self, made: Any) -> list:
        """The real outputs that take part."""
        outs = leaves(made)
        outs = outs if self.outputs is None else [outs[i] for i in self.outputs]
        return [y for y in outs if isinstance(y, mx.np.ndarray) and is_float(str(y.dtype))]

    def value(self, flat: Sequence) -> float:
        """The scalar."""
        return sum(
            float((y.asnumpy().astype("float64") * h).sum())
            for y, h in zip(self.reals(self.call(flat)), self.heads, strict=True)
        )

    def gradients(self, flat: Sequence, create_graph: bool = False) -> tuple[list, list]:
        """(variables, gradients); none where no output is on the tape."""
        flat = list(flat)
        for i in self.active:
            flat[i] = mx.np.array(flat[i])
            flat[i].attach_grad()
        variables = [flat[i] for i in self.active]
        with autograd.record(train_mode=False):
            pairs = [
                (y, mx.np.array(h))
                for y, h in zip(self.reals(self.call(flat)), self.heads, strict=True)
                if _core.on_tape(y)
            ]
            if not pairs or not variables:
                return variables, []
            outs, heads = zip(*pairs, strict=True)
            return variables, autograd.grad(
                list(outs), variables, list(heads), create_graph=create_graph, train_mode=False
            )

    def difference(self, scalar: Callable[[Sequence], float], i: int, direction: np.ndarray, step: float) -> float:
        """Central difference quotient of ``scalar`` along a direction of operand ``i``."""
        up, down = list(self.flat), list(self.flat)
        up[i], down[i] = ((self.flat[i] + s * step * direction).astype(self.flat[i].dtype) for s in (1, -1))
        return (scalar(up) - scalar(down)) / (2 * step)

    def direction(self, i: int) -> np.ndarray:
        """A random direction, every coordinate of which counts."""
        x = self.flat[i]
        return (self.rng.uniform(0.5, 1.5, x.shape) * self.rng.choice([-1.0, 1.0], x.shape)).astype(x.dtype)


def _agree(slope: float, inner: float, scale: float, near: float, what: str) -> None:
    assert abs(slope - inner) <= near * max(scale, 1e-2), (
        f"{what}: differences give {slope:.9g}, the gradient {inner:.9g}"
    )


def check_gradient(
    function: Callable,
    operands: Sequence,
    attrs: dict,
    what: str = "",
    heads: Sequence[int] | None = None,
    directions: int = 2,
) -> bool:
    """Gradients of all real operands against differences along random directions. False: nothing is on the tape."""
    probe = Probe(function, operands, attrs, generator("gradient", what), heads)
    _, grads = probe.gradients(probe.flat)
    for n, i in enumerate(probe.active):
        g = grads[n].asnumpy() if grads else np.zeros(probe.flat[i].shape)
        kind = probe.flat[i].dtype.name
        assert g.shape == probe.flat[i].shape, f"{what}: gradient of shape {g.shape} for operand {i}"
        for _ in range(directions):
            v = probe.direction(i)
            inner = float((g.astype("float64") * v).sum())
            slope = probe.difference(probe.value, i, v, STEP[kind])
            _agree(slope, inner, float((abs(g.astype("float64")) * abs(v)).sum()), NEAR[kind], f"{what}, operand {i}")
    return bool(grads)


def check_second_gradient(
    function: Callable, operands: Sequence, attrs: dict, what: str = "", heads: Sequence[int] | None = None
) -> bool:
    """Gradients of <gradient, u> against differences of it. False: the gradient does not depend on anything."""
    probe = Probe(function, operands, attrs, generator("second", what), heads)
    variables, grads = probe.gradients(probe.flat, create_graph=True)
    us = [probe.rng.uniform(0.5, 1.5, x.shape).astype(x.dtype.name) for x in variables]
    pairs = [(g, mx.np.array(u)) for g, u in zip(grads, us, strict=True) if _core.on_tape(g)] if grads else []
    second = autograd.grad([g for g, _ in pairs], variables, [u for _, u in pairs], train_mode=False) if pairs else None

    def scalar(flat: Sequence) -> float:
        found = probe.gradients(flat)[1]
        return (
            sum(float((g.asnumpy().astype("float64") * u).sum()) for g, u in zip(found, us, strict=True))
            if found
            else 0.0
        )

    for n, i in enumerate(probe.active):
        g = second[n].asnumpy().astype("float64") if second else np.zeros(probe.flat[i].shape)
        kind, v = probe.flat[i].dtype.name, probe.direction(i)
        slope = probe.difference(scalar, i, v, STEP[kind])
        scale = float((abs(g) * abs(v)).sum()) + abs(scalar(probe.flat)) * 1e-2
        _agree(slope, float((g * v).sum()), scale, NEAR[kind], f"{what}, second order, operand {i}")
    return second is not None


# --- eager and hybridized ----------------------------------------------------------------------------------------


class Call(HybridBlock):
    """A block that calls one function."""

    def __init__(self, function: Callable, attrs: dict) -> None:
        super().__init__()
        self.function, self.attrs = function, attrs

    def forward(self, *operands: Any) -> Any:
        return self.function(*operands, **self.attrs)


def check_hybrid(function: Callable, operands: Sequence, attrs: dict, dtype: str, what: str = "") -> None:
    """Outputs and gradients of the eager call and of its graph agree to the last few bits."""
    results, taped = [], None
    for hybrid in (False, True):
        block = Call(function, attrs)
        if hybrid:
            block.hybridize()
        mx.random.seed(11)
        arrays = on_device(operands, dtype)
        variables = [x for x in leaves(arrays) if isinstance(x, mx.np.ndarray) and is_float(str(x.dtype))]
        for x in variables:
            x.attach_grad()
        plain = to_numpy(block(*arrays))
        with autograd.record():
            made = leaves(block(*arrays))
        taped = [isinstance(y, mx.np.ndarray) and _core.on_tape(y) for y in made] if taped is None else taped
        made = [y for y, on in zip(made, taped, strict=True) if on]
        if made:
            autograd.backward(made)
        results.append((plain, to_numpy(made), [to_numpy(x.grad) for x in variables] if made else []))
    bits = {"float64": 1e-13, "float32": 2e-6, "float16": 2e-3, "bfloat16": 2e-2}.get(dtype, 1e-6)
    close(results[1], results[0], bits, f"{what} hybridized")
