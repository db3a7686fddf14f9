"""The stub of ``minimx._core``, where the array class is: its attributes, operators and methods, asked of the class.

Types of attributes are those of sample arrays. The C functions beside the class are for minimx itself and stay untyped.
"""

from __future__ import annotations

import importlib
import inspect
import textwrap
from typing import Any

from .describe import public, signature
from .stubs import HEADER, annotation, docstring, function, parameters, returned, text_of_type
from .table import Op

ARITHMETIC = "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift".split()
COMPARISONS = "lt le gt ge eq ne".split()
UNARY = {"abs": "ndarray", "neg": "ndarray", "pos": "ndarray", "invert": "ndarray", "bool": "bool", "int": "int",
         "float": "float", "index": "int", "len": "int", "hash": "int"}  # fmt: skip
OF_C = {"asnumpy": "numpy.ndarray[Any, Any]", "wait_to_read": "None"}  # what methods without annotations return
PROTOCOLS = """\
def __getitem__(self, key: Index) -> ndarray: ...
def __setitem__(self, key: Index, value: ArrayLike) -> None: ...
def __iter__(self) -> Iterator[ndarray]: ...
def __contains__(self, value: ArrayLike) -> _bool: ...
def __array__(self, dtype: Any = None, copy: _bool | None = None) -> numpy.ndarray[Any, Any]: ...
def __buffer__(self, flags: int, /) -> memoryview: ...
def __dlpack__(self, **kwargs: Any) -> Any: ...
def __dlpack_device__(self) -> tuple[int, int]: ...
@property
def _traced(self) -> _bool: ..."""
HEAD = """\
from builtins import bool as _bool
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy
import numpy as _numpy

from minimx.device import Device
from minimx.typing import ArrayLike, Axis, DeviceLike, DType, Index, Shape

def __getattr__(name: str) -> Any: ...
"""


def array_stub(operands: set[str]) -> str:
    """The text of ``_core.pyi``."""
    minimx = importlib.import_module("minimx")
    made = importlib.import_module("minimx.functions").public
    rows = {id(made(op.name)): op for op in public()}
    cls = minimx.ndarray
    lines = [operators(cls), PROTOCOLS]
    for name in sorted(n for n in dir(cls) if not n.startswith("_")):
        x = inspect.getattr_static(cls, name)
        if inspect.isdatadescriptor(x):
            lines.append(attribute(minimx, name, x))
        else:
            lines.append(method(name, getattr(cls, name), rows, operands))
    title = HEADER.format(title="The array class and the C++ runtime.")
    doc = docstring(cls.__doc__ or "A tensor: elements of one type on one device. Operators run asynchronously.")
    return f"{title}\n\n{HEAD}\nclass ndarray:\n" + textwrap.indent("\n".join([doc, *lines]), "    ") + "\n"


def operators(cls: type) -> str:
    """Arithmetic, comparisons and conversions, those that the class has."""
    lines = []
    for name in ARITHMETIC:
        for dunder in (f"__{name}__", f"__r{name}__", f"__i{name}__"):
            if dunder in dir(cls):
                lines.append(f"def {dunder}(self, other: ArrayLike) -> ndarray: ...")
    for name in COMPARISONS:
        ignore = "  # type: ignore[override]" if name in ("eq", "ne") else ""
        lines.append(f"def __{name}__(self, other: ArrayLike) -> ndarray: ...{ignore}")
    for name, returns in UNARY.items():
        if f"__{name}__" in dir(cls):
            lines.append(f"def __{name}__(self) -> {'_bool' if returns == 'bool' else returns}: ...")
    return "\n".join(lines)


def attribute(minimx: Any, name: str, x: Any) -> str:
    """A property, of the type that it has on a plain array and on a variable."""
    plain, variable = minimx.np.ones((2, 3)), minimx.np.ones((2, 3))
    variable.attach_grad()
    found = list(dict.fromkeys(text_of_type(getattr(a, name)) for a in (variable, plain)))
    text = " | ".join(found) if name != "dtype" else "numpy.dtype[Any]"
    text = "_bool" if text == "bool" else text
    return f"@property\ndef {name}(self) -> {text}:\n{textwrap.indent(docstring(x.__doc__ or ''), '    ')}"


def method(name: str, x: Any, rows: dict[int, Op], operands: set[str]) -> str:
    """A method: from its row, or from the signature of the function that it is."""
    if id(x) in rows:
        op = rows[id(x)]
        texts = parameters(signature(op), lambda p: annotation(op, p, operands), skip_first=True)
        return function(name, texts, returned(op), op.doc)
    s = inspect.signature(x)
    returns = OF_C.get(name, "Any") if s.return_annotation is s.empty else str(s.return_annotation)
    return function(name, parameters(s, lambda p: str(p.annotation), skip_first=True), returns, x.__doc__ or "")
