"""Element types: the one list. The C++ enum is generated from it, and every rule about types is here.

Not here: conversion to numpy's dtypes (minimx/ndarray). Type promotion follows NumPy for two integers and for two
floats; an integer never widens a float (int64 + float32 is float32), and Python scalars are weak (NEP 50).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DType:
    """One element type: ``name``, C++ ``ctype``, ``size`` in bytes and ``kind`` ('b'ool, 'u'/'i'nteger, 'f'loat)."""

    code: int
    name: str
    ctype: str
    size: int
    kind: str

    @property
    def enum(self) -> str:
        """Name of the C++ enumerator."""
        return "k" + {"bfloat16": "BFloat16", "uint8": "UInt8"}.get(self.name, self.name.capitalize())

    @property
    def compute(self) -> str:
        """C++ type that arithmetic is done in: float for the 16-bit floats, else the type itself."""
        return "float" if self.kind == "f" and self.size == 2 else self.ctype


_ROWS = [
    ("bool", "bool", 1, "b"),
    ("uint8", "uint8_t", 1, "u"),
    ("int8", "int8_t", 1, "i"),
    ("int16", "int16_t", 2, "i"),
    ("int32", "int32_t", 4, "i"),
    ("int64", "int64_t", 8, "i"),
    ("float16", "Half", 2, "f"),
    ("bfloat16", "BFloat16", 2, "f"),
    ("float32", "float", 4, "f"),
    ("float64", "double", 8, "f"),
]
DTYPES = tuple(DType(code, *row) for code, row in enumerate(_ROWS))
BY_NAME = {d.name: d for d in DTYPES}

BOOL = ("bool",)
INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
FLOATS = ("float16", "bfloat16", "float32", "float64")
NUMBERS = INTEGERS + FLOATS
ALL = BOOL + NUMBERS


def is_float(name: str) -> bool:
    """True for float16, bfloat16, float32 and float64."""
    return name in FLOATS


def promote(a: str, b: str) -> str:
    """The type that holds both: NumPy's rule within a kind; a float beats an integer, an integer beats bool."""
    if a == b:
        return a
    da, db = BY_NAME[a], BY_NAME[b]
    if (da.kind == "f") != (db.kind == "f"):
        return a if da.kind == "f" else b
    if da.kind == "b" or db.kind == "b":
        return b if da.kind == "b" else a
    if {a, b} == {"float16", "bfloat16"}:
        return "float32"
    if da.kind != db.kind:  # uint8 with a signed type
        signed = a if da.kind == "i" else b
        return "int16" if signed == "int8" else signed
    return a if da.size > db.size else b


def promote_all(names: list[str], scalars: list[type]) -> str:
    """Type of an operation on arrays of types ``names`` and Python scalars of types ``scalars`` (weak, NEP 50)."""
    if not names:
        return "float32" if float in scalars else "int64" if int in scalars else "bool"
    out = names[0]
    for n in names[1:]:
        out = promote(out, n)
    if float in scalars and not is_float(out):
        return "float32"
    if int in scalars and out == "bool":
        return "int64"
    return out
