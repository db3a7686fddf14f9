"""Automatic differentiation: recording, train and predict mode, gradients, functions with gradients of their own.

The tape is C++ (csrc/runtime/tape.cc); its essay is docs/autograd.md. Modes are per thread.

>>> import minimx as mx
>>> x = mx.np.array([1.0, 2.0]); x.attach_grad()
>>> with mx.autograd.record():
...     y = (x * x).sum()
>>> y.backward(); x.grad
array([2., 4.])
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from . import errors
from .ndarray import _REQ, _core, ndarray
from .ops.table import f

is_recording = _core.is_recording
is_training = _core.is_training


def set_recording(is_recording: bool) -> bool:
    """Turns recording on or off for this thread; returns what it was."""
    return _core.set_recording(is_recording)


def set_training(train_mode: bool) -> bool:
    """Turns train mode on or off for this thread; returns what it was."""
    return _core.set_training(train_mode)


def record(train_mode: bool = True) -> AbstractContextManager[None]:
    """``with`` block in which operators are put on the tape, in train mode by default."""
    return _core.scope(True, train_mode)


def pause(train_mode: bool = False) -> AbstractContextManager[None]:
    """``with`` block in which nothing is put on the tape."""
    return _core.scope(False, train_mode)


def train_mode() -> AbstractContextManager[None]:
    """``with`` block in which dropout drops and batch norm uses the batch; recording stays as it is."""
    return _core.scope(None, True)


def predict_mode() -> AbstractContextManager[None]:
    """``with`` block in which layers behave as in inference; recording stays as it is."""
    return _core.scope(None, False)


def _list(x: Any) -> list:
    return list(x) if isinstance(x, (list, tuple)) else [x]


def mark_variables(variables: Any, gradients: Any, grad_reqs: str | Sequence[str] = "write") -> None:
    """Makes arrays variables whose gradients go to the given arrays."""
    variables, gradients = _list(variables), _list(gradients)
    reqs = [grad_reqs] * len(variables) if isinstance(grad_reqs, str) else list(grad_reqs)
    for x, g, req in zip(variables, gradients, reqs, strict=True):
        _core.attach_grad(x, _REQ[req], g)


def backward(
    heads: Any, head_grads: Any = None, retain_graph: bool = False, train_mode: bool = True, create_graph: bool = False
) -> None:
    """Walks back from ``heads`` and puts the gradients of all variables where attach_grad said.

    head_grads: gradient of something with respect to each head, of its shape; None is ones. retain_graph keeps the
    saved arrays for another walk. create_graph records the walk itself. Raises AutogradError for a head that is not on
    the tape, a freed graph, or a saved array that was written to in place.
    """
    _core.backward(heads, head_grads, (), retain_graph, create_graph, train_mode)


def grad(
    heads: Any,
    variables: Any,
    head_grads: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    train_mode: bool = True,
) -> Any:
    """Gradients of ``heads`` with respect to ``variables``, returned instead of stored; zeros where independent.

    With ``create_graph=True`` they are on the tape themselves, so gradients of gradients can be taken, to any order.
    """
    single, variables = not isinstance(variables, (list, tuple)), _list(variables)
    keep = create_graph if retain_graph is None else retain_graph
    found = _core.backward(heads, head_grads, variables, keep, create_graph, train_mode)
    out = [f.zeros_like(v) if g is None else g for g, v in zip(found, variables, strict=True)]
    return out[0] if single else out


class Function:
    """An operator with a gradient of its own: subclass with ``forward`` and ``backward`` over arrays, and call it.

    What ``forward`` computes is not recorded; ``backward`` gets one gradient per output and returns one per input.

    >>> class Double(Function):
    ...     def forward(self, x): return 2 * x
    ...     def backward(self, dy): return 2 * dy
    """

    saved_tensors: tuple = ()

    def save_for_backward(self, *args: Any) -> None:
        """Keeps arrays for ``backward``, as ``self.saved_tensors``."""
        self.saved_tensors = args

    def forward(self, *inputs: Any) -> Any:
        """Outputs for the inputs; to be given."""
        raise NotImplementedError

    def backward(self, *output_grads: Any) -> Any:
        """Gradients of the inputs for those of the outputs; to be given."""
        raise NotImplementedError

    def __call__(self, *inputs: Any) -> Any:
        if _core.is_tracing():
            raise errors.GraphError(
                type(self).__name__,
                "operators only while a graph is traced",
                "a custom Function",
                "Do not hybridize the block that calls it",
            )
        recording = _core.is_recording()
        with pause(train_mode=_core.is_training()):
            made = self.forward(*inputs)
        outs = list(made) if isinstance(made, (list, tuple)) else [made]
        arrays = [x for x in inputs if isinstance(x, ndarray)]
        if recording and any(_core.on_tape(x) for x in arrays):
            outs = [_core.detach(o) for o in outs]

            def run(gs: list) -> list:
                filled = [f.zeros_like(o) if g is None else g for g, o in zip(gs, outs, strict=True)]
                back = self.backward(*filled)
                return list(back) if isinstance(back, (list, tuple)) else [back]

            _core.record_python(type(self).__name__, run, arrays, outs)
        return type(made)(outs) if isinstance(made, (list, tuple)) else outs[0]
