"""The stubs in the package are those that the table gives, and mypy finds in them what is wrong with a call.

Also: every public function and method has a docstring and a signature, and the examples in them run.
"""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

import minimx as mx
from minimx.ops import describe, stubs
from minimx.ops.table import OPS

ROOT = Path(__file__).parent.parent
MODULES = [mx.np, mx.np.random, mx.np.linalg, mx.npx, mx.npx.random, mx.nd, mx.nd.random]
NUMBER = re.compile(r"-?\d+\.\d*(?:e[+-]\d+)?")
# The functions that books and scripts call most, by the counts of a survey: these come with an example.
MOST_USED = """reshape sum zeros arange dot split concatenate expand_dims normal ones mean sqrt exp transpose
uniform randn log stack relu sin argmax abs square batch_dot sigmoid squeeze cos tanh softmax cumsum
repeat std swapaxes linspace full log2 maximum meshgrid nonzero tile clip max linalg_norm
multinomial rand sign sequence_mask einsum ones_like zeros_like one_hot convolution pooling
fully_connected topk embedding layer_norm batch_norm dropout where take""".split()


# --- stubs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", stubs.files())
def test_stub_is_up_to_date(path):
    """Fails after a change of a row or of a namespace until the stubs are written again."""
    written = ROOT / "minimx" / path
    assert written.exists() and written.read_text() == stubs.files()[path], (
        f"minimx/{path} is not what the table gives. Run `python -m minimx.ops stubs minimx`"
    )


def test_stubs_name_all_that_is_public():
    """Names written by hand are in the stubs as well."""
    for module in MODULES:
        name = module.__name__.removeprefix("minimx.").replace(".", "/")
        text = next(t for p, t in stubs.files().items() if p in (f"{name}.pyi", f"{name}/__init__.pyi"))
        listed = re.search(r"__all__ = \[(.*?)\]", text, re.DOTALL).group(1)
        assert re.findall(r'"(\w+)"', listed) == sorted(module.__all__)


def mypy(*files: str) -> list[str]:
    """The lines that mypy prints for ``files``."""
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed: it comes with the extra `dev`")
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", *files]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()


def test_mypy_accepts_right_calls():
    """What users write, in the types that users see."""
    assert [line for line in mypy("tests/typing/right.py") if line.startswith("tests/")] == []


def test_mypy_refuses_wrong_calls():
    """Every line of wrong.py has just the error it names."""
    lines = (ROOT / "tests/typing/wrong.py").read_text().splitlines()
    expected = {(i, line.rpartition("# ")[2]) for i, line in enumerate(lines, 1) if "  # " in line}
    found = re.findall(r"wrong\.py:(\d+): error: .*\[([\w-]+)\]", "\n".join(mypy("tests/typing/wrong.py")))
    assert {(int(i), code) for i, code in found} == expected


# --- docstrings ------------------------------------------------------------------------------------------------------


def public_functions() -> list:
    """Every function of the namespaces and method of the array that is ours, by its public name."""
    found = [(f"{m.__name__}.{n}", getattr(m, n)) for m in MODULES for n in m.__all__]
    found += [(f"ndarray.{n}", getattr(mx.ndarray, n)) for n in dir(mx.ndarray) if not n.startswith("_")]
    ours = [(n, x) for n, x in found if not (getattr(x, "__module__", "") or "").startswith("numpy")]
    return [pytest.param(x, id=n) for n, x in ours if callable(x) and not isinstance(x, type)]


@pytest.mark.parametrize("function", public_functions())
def test_docstring_and_signature(function):
    """help(), inspect and editors have something to show."""
    assert function.__doc__ and len(function.__doc__.strip()) > 5
    assert inspect.signature(function) is not None


def test_attributes_have_docstrings():
    """x.T, x.grad, x.shape and the others."""
    for name in dir(mx.ndarray):
        x = inspect.getattr_static(mx.ndarray, name)
        if inspect.isdatadescriptor(x) and not name.startswith("_"):
            assert x.__doc__, name


def test_docstring_says_what_follows_from_the_row():
    """Shapes, types, gradient, errors and names."""
    text = mx.np.arctan2.__doc__
    for part in ("broadcast", "floats", "of x1, x2; keeps x1, x2", "ShapeError", "np.arctan2, np.atan2"):
        assert part in text, text
    assert "keeps y" in mx.np.tanh.__doc__ and "DTypeError" in mx.np.bitwise_and.__doc__


def test_signatures_tell_the_keywords_that_every_row_takes():
    """``out`` and ``device`` are accepted where the signature has them."""
    assert "out" in inspect.signature(mx.np.tanh).parameters
    assert list(inspect.signature(mx.np.zeros).parameters)[-2:] == ["device", "ctx"]
    out = mx.np.empty(2)
    assert mx.np.tanh(mx.np.zeros(2), out=out) is out
    assert mx.np.zeros(2, ctx=mx.cpu()).device == mx.cpu()


class Near(doctest.OutputChecker):
    """Compares printed numbers to five digits and the rest exactly but for spaces."""

    def check_output(self, want: str, got: str, flags: int) -> bool:
        rest = [" ".join(NUMBER.sub("#", text).split()).replace(" ", "") for text in (want, got)]
        numbers = [[float(n) for n in NUMBER.findall(text)] for text in (want, got)]
        return rest[0] == rest[1] and numpy.allclose(*numbers, rtol=1e-5, atol=1e-6)


def run_example(text: str) -> str:
    """The complaints about a session."""
    space = {"mx": mx, "np": mx.np, "npx": mx.npx, "nd": mx.nd}
    session = doctest.DocTestParser().get_doctest(text, space, "example", None, 0)
    assert session.examples
    complaints: list[str] = []
    doctest.DocTestRunner(checker=Near()).run(session, out=complaints.append)
    return "".join(complaints)


@pytest.mark.parametrize("name", [op.name for op in OPS.values() if op.row.example])
def test_example_runs(name):
    """The session in the docstring gives what it shows."""
    assert not run_example(OPS[name].row.example)
    assert OPS[name].row.example in describe.documentation(OPS[name])


def test_a_wrong_example_is_noticed():
    """The fourth digit counts, and so does the shape."""
    assert run_example(">>> np.exp(np.array([1]))\narray([2.7189])")
    assert run_example(">>> np.ones(2)\narray([[1., 1.]])")


@pytest.mark.parametrize("name", MOST_USED)
def test_most_used_functions_have_an_example(name):
    """What people look up most shows how it is called."""
    assert OPS[name].row.example


def test_plain_names_of_gluon_are_there():
    """The switches of NumPy's semantics, and what they do: nothing."""
    mx.npx.set_np()
    mx.util.reset_np()
    assert mx.npx.is_np_array() and mx.util.use_np(MODULES) is MODULES
    mx.np.random.seed(3)
    a = mx.npx.random.uniform_n(0, 1, (4,))
    mx.npx.random.seed(3)
    assert (a == mx.npx.random.uniform_n(0, 1, (4,))).all()
    x = mx.np.ones(2)
    x.attach_grad()
    x.drop_grad()
    assert x.grad is None
