"""What a GPU kernel is before it is compiled: CUDA text and how to launch it. Written by the files beside this one.

A recipe is made once per signature (shapes, strides and types of the operands) and launched from C++ as often as the
operator runs (csrc/cuda/launcher.cc). Its texts do not depend on shapes where that is not needed, so that few kernels
serve many shapes. Read next: pointwise.py for the simplest recipes, compile.py for what happens to the text.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...ops.table import Spec

Factory = Callable[[Sequence[Spec], Sequence[Spec], dict[str, Any]], "Recipe"]


class Operand(NamedTuple):
    """Argument: the pointer to operand ``index`` (inputs, then outputs), ``offset`` bytes on; of a host scalar
    (``Spec.weak``) the value itself, in the type of its Spec.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    offset: int = 0


class Scratch(NamedTuple):
    """Argument: a pointer ``offset`` bytes into the recipe's workspace, which is aligned to 256 bytes."""

    offset: int


class Value(NamedTuple):
    """Argument: a number by value. dtype: a type of minimx/ops/dtypes.py; ``int64`` for counts and strides."""

    value: float
    dtype: str = "int64"


class State(NamedTuple):
    """Three arguments: the state of the random stream, ``uint64_t seed, uint64_t call, const uint64_t* base``. Where
    ``base`` is not null, the seed is ``base[0]`` and the call ``base[1] + call`` (inside a captured graph).
    """


class Table(NamedTuple):
    """One argument: a struct by value, whose members are these, 8 bytes each (pointers and ``int64`` numbers)."""

    members: tuple[Operand | Scratch | Value, ...]


Argument = Operand | Scratch | Value | State | Table


class Code(NamedTuple):
    """CUDA text that follows prelude.h in namespace minimx::scalar, and the name of the kernel it defines."""

    name: str
    text: str


@dataclass(frozen=True)
class Launch:
    """One kernel launch. grid and block: (x, y, z); shared: bytes of dynamic shared memory."""

    code: Code
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    args: tuple[Argument, ...]
    shared: int = 0


@dataclass(frozen=True)
class Recipe:
    """The launches of an operator in order, on one stream. workspace: bytes of scratch memory, not initialised."""

    launches: tuple[Launch, ...]
    workspace: int = 0


def code(name: str, text: str) -> Code:
    """``text`` with ``KERNEL`` replaced by ``name`` and a digest of the text: equal texts are compiled once.

    The text must define ``extern "C" __global__ void KERNEL(...) {``. It gets its first line here: kernels wait for
    those before them by themselves (``in_order`` in prelude.h).
    """
    body = text.index("{", text.index("KERNEL(")) + 1
    text = f"{text[:body]}\n  in_order();{text[body:]}"
    full = f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return Code(full, text.replace("KERNEL", full))


def placed(r: Recipe, *places: Argument) -> list[Launch]:
    """The launches of a recipe without a workspace over other places: ``places[i]`` in place of operand i."""
    there = [tuple(places[a.index] if isinstance(a, Operand) else a for a in x.args) for x in r.launches]
    return [dataclasses.replace(x, args=args) for x, args in zip(r.launches, there, strict=True)]


def blocks_for(elements: int, each: int, most: int = 1 << 20) -> int:
    """Blocks that cover ``elements`` with ``each`` a block; at least one and at most ``most`` (then the kernel must
    stride over the grid).
    """
    return max(1, min(most, -(-elements // each)))
