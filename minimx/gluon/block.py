"""Block: a piece of a model, with children and parameters that are registered by assigning them to attributes.

Runs its ``forward`` as plain Python. What traces it into a graph is HybridBlock (hybrid.py); hooks are in hooks.py, the
checks on loaded files in parameter_files.py, the table of ``summary`` in summary.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .. import serialization
from ..errors import ArgumentError, ArgumentTypeError, NotSupported
from .hooks import HookHandle, HookTable, add_hook, add_op_hook
from .located import locate
from .parameter import Parameter, warn_kept
from .parameter_dict import BlockParameters, ParameterDict
from .parameter_files import load_into
from .summary import print_summary

__all__ = ["Block"]


class Block:
    """Base of all layers and models.

    A subclass makes children and parameters in ``__init__`` and computes in ``forward``. ``prefix`` and ``params`` are
    for Gluon 1 code: the one is a name and nothing more, the other shares the parameters of another block.

    >>> import minimx as mx
    >>> from minimx.gluon import nn
    >>> class Net(mx.gluon.Block):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.hidden, self.out = nn.Dense(20, activation="relu"), nn.Dense(10)
    ...
    ...     def forward(self, x):
    ...         return self.out(self.hidden(x))
    >>> net = Net()
    >>> net.initialize()
    >>> net(mx.np.ones((2, 5))).shape
    (2, 10)
    """

    def __init__(self, prefix: str | None = None, params: Mapping[str, Parameter] | None = None) -> None:
        self._children: dict[str, Block] = {}
        self._reg_params: dict[str, Parameter] = {}
        self._parents: weakref.WeakSet[Block] = weakref.WeakSet()
        self._pre_hooks = HookTable()
        self._hooks = HookTable()
        self._shared_from = params
        self.prefix = prefix or ""

    # Registration

    def __setattr__(self, name: str, value: Any) -> None:
        old = self.__dict__.get(name)
        if isinstance(old, (Block, Parameter)) and not isinstance(value, (type(old), Block, Parameter)):
            where = f"{type(self).__name__}.{name}"
            raise ArgumentTypeError(
                where, f"a {type(old).__name__}", type(value).__name__, "Use another attribute name"
            )
        if isinstance(value, Block):
            self.register_child(value, name)
        elif isinstance(value, Parameter):
            value = self._register_parameter(name, value)
        super().__setattr__(name, value)

    def _register_parameter(self, name: str, parameter: Parameter) -> Parameter:
        """Enter a parameter under ``name``; gives back the one to keep, which is another block's when shared."""
        if self._shared_from is not None and name in self._shared_from:
            parameter = self._shared_from[name]
        for other in [n for n, p in self._reg_params.items() if p is parameter and n not in self.__dict__]:
            del self._reg_params[other]  # made by self.params.get and now given its attribute
        parameter.name = parameter.name or name
        self._reg_params[name] = parameter
        parameter._owners.add(self)
        self._structure_changed()
        return parameter

    def register_child(self, block: Block, name: str | None = None) -> None:
        """Add a child; ``forward`` calls it as it likes. Without a name it is numbered."""
        self._children[str(len(self._children)) if name is None else name] = block
        block._parents.add(self)
        self._structure_changed()

    def _structure_changed(self) -> None:
        """Children or parameters are other ones than before: graphs of this block and those above are out of date."""
        for parent in list(self._parents):
            parent._structure_changed()

    def register_forward_pre_hook(self, hook: Callable[[Block, tuple], None]) -> HookHandle:
        """Call ``hook(block, inputs)`` before each forward; ``handle.detach()`` ends it."""
        return add_hook(self._pre_hooks, hook)

    def register_forward_hook(self, hook: Callable[[Block, tuple, Any], None]) -> HookHandle:
        """Call ``hook(block, inputs, outputs)`` after each forward; ``handle.detach()`` ends it."""
        return add_hook(self._hooks, hook)

    def register_op_hook(self, callback: Callable[[str, str, Any], None], monitor_all: bool = False) -> HookHandle:
        """Call ``callback(name, layer type, array)`` with each layer's output (``monitor_all``: inputs too).

        Only layers that run imperatively are seen, not those inside a hybridized block.
        """
        return add_op_hook(self, callback, monitor_all)

    # Structure

    def named_blocks(self, prefix: str = "") -> Iterator[tuple[str, Block]]:
        """(structural name, block) of this block (named ``prefix``) and all below it, parents first."""
        yield prefix, self
        for name, child in self._children.items():
            yield from child.named_blocks(f"{prefix}.{name}" if prefix else name)

    def apply(self, fn: Callable[[Block], Any]) -> Block:
        """Call ``fn`` with every block below and at last with this one; returns this one."""
        for child in self._children.values():
            child.apply(fn)
        fn(self)
        return self

    @property
    def params(self) -> BlockParameters:
        """Own parameters, without those of children. ``self.params.get(name, shape=...)`` makes one, as in Gluon 1."""
        return BlockParameters(self._register_parameter, self._reg_params)

    def name_scope(self) -> contextlib.AbstractContextManager[Block]:
        """For Gluon 1 code; names are structural and need no scope."""
        return contextlib.nullcontext(self)

    @property
    def name(self) -> str:
        """Name for messages: the prefix when given, else the class."""
        return self.prefix.rstrip("_") or type(self).__name__.lower()

    def collect_params(self, select: str | None = None) -> ParameterDict:
        """All parameters of this block and its children by structural name; ``select`` is a regular expression.

        >>> import minimx as mx
        >>> list(mx.gluon.nn.Dense(2).collect_params(".*weight"))
        ['weight']
        """
        self._warn_of_hidden_blocks()
        found = ParameterDict()
        for path, block in self.named_blocks():
            for name, parameter in block._reg_params.items():
                found[f"{path}.{name}" if path else name] = parameter
        for name, parameter in found.items():
            if name.count(".") >= parameter.path.count("."):  # the outermost block that collected it knows it best
                parameter.path = name
        return found if select is None else found.select(select)

    def _warn_of_hidden_blocks(self) -> None:
        """Blocks in a plain list or dict are not children: their parameters would silently stay untrained."""
        for _, block in self.named_blocks():
            children = {id(child) for child in block._children.values()}
            for name, value in block.__dict__.items():
                items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
                hidden = not name.startswith("_") and any(isinstance(v, Block) and id(v) not in children for v in items)
                if hidden:
                    text = f"{type(block).__name__}.{name} holds blocks that are not registered, so their parameters"
                    warnings.warn(f"{text} are not collected. Use nn.Sequential or register_child.", stacklevel=3)

    # Parameters

    def initialize(
        self,
        init: Any = None,
        device: Any = None,
        verbose: bool = False,
        force_reinit: bool = False,
        ctx: Any = None,
    ) -> None:
        """Initialise all parameters, with ``init`` (Uniform(0.07)) where they have no initializer of their own.

        device (or ctx): one or several; the current one by default. Those of unknown shape wait for the first input.
        """
        warn_kept(self.collect_params().initialize_new(init, device, verbose, force_reinit, ctx))

    def zero_grad(self) -> None:
        """Set all gradients to 0."""
        self.collect_params().zero_grad()

    def setattr(self, name: str, value: Any) -> None:
        """Set an attribute of all parameters, as in ``net.setattr("grad_req", "null")``."""
        self.collect_params().setattr(name, value)

    def reset_device(self, device: Any) -> None:
        """Move all parameters to ``device``, one or several."""
        self.collect_params().reset_device(device)
        self._structure_changed()

    def reset_ctx(self, ctx: Any) -> None:
        """Gluon 1's name of ``reset_device``."""
        self.reset_device(ctx)

    def cast(self, dtype: Any) -> None:
        """Cast all parameters, those of children first. Layers that need float32 keep it (BatchNorm with 16 bits)."""
        for child in self._children.values():
            child.cast(dtype)
        for parameter in self._reg_params.values():
            parameter.cast(dtype)
        self._structure_changed()

    def share_parameters(self, shared: Mapping[str, Parameter]) -> Block:
        """Use the parameters in ``shared``, a dict by structural name, in place of the own ones; returns this block.

        >>> import minimx as mx
        >>> nn = mx.gluon.nn
        >>> other = nn.Dense(20, in_units=5)
        >>> tied = nn.Dense(20).share_parameters(other.collect_params())
        """
        if not isinstance(shared, Mapping):
            raise ArgumentError(
                "share_parameters", "a dict of parameters", type(shared).__name__, "Pass collect_params()"
            )
        unused = dict(shared)
        for path, block in self.named_blocks():
            for name in list(block._reg_params):
                key = f"{path}.{name}" if path else name
                if key in shared:
                    block._shared_from = None
                    setattr(block, name, shared[key])
                    unused.pop(key, None)
        if unused:
            warnings.warn(f"share_parameters: no place for {', '.join(unused)}", stacklevel=2)
        return self

    def save_parameters(self, filename: str | os.PathLike, deduplicate: bool = False) -> None:
        """Write the parameters by structural name, as safetensors, atomically.

        deduplicate: a shared parameter is written once. Raises NotInitialized when one has no values.
        """
        parameters, written, values = self.collect_params(), set(), {}
        for name, parameter in parameters.items():
            if not (deduplicate and id(parameter) in written):
                values[name] = parameter.list_data()[0]
            written.add(id(parameter))
        serialization.save(filename, values)

    def load_parameters(
        self,
        filename: str | os.PathLike,
        device: Any = None,
        allow_missing: bool = False,
        ignore_extra: bool = False,
        cast_dtype: bool = False,
        dtype_source: str = "current",
        ctx: Any = None,
    ) -> None:
        """Read parameters from a file of arrays (safetensors or .npz); also initialises, and settles unknown shapes.

        Raises FileMissing, FileFormatError, NameNotFound (unless allow_missing, ignore_extra), ShapeError, and
        DTypeError unless cast_dtype; then no parameter has changed. dtype_source: with cast_dtype, keep the "current"
        types or take the "saved" ones.
        """
        values = serialization.read(filename).arrays
        where = f"load {os.fspath(filename)}"
        self._load(values, where, device if ctx is None else ctx, allow_missing, ignore_extra, cast_dtype, dtype_source)

    def load_dict(
        self,
        param_dict: Mapping[str, Any],
        device: Any = None,
        allow_missing: bool = False,
        ignore_extra: bool = False,
        cast_dtype: bool = False,
        dtype_source: str = "current",
        ctx: Any = None,
    ) -> None:
        """As ``load_parameters``, from a dict of arrays."""
        values = {name.removeprefix("arg:").removeprefix("aux:"): value for name, value in param_dict.items()}
        where = f"{type(self).__name__}.load_dict"
        self._load(values, where, device if ctx is None else ctx, allow_missing, ignore_extra, cast_dtype, dtype_source)

    def _load(self, values: Mapping[str, Any], where: str, *options: Any) -> None:
        if options[-1] not in ("current", "saved"):
            raise ArgumentError(where, "dtype_source 'current' or 'saved'", repr(options[-1]))
        load_into(self.collect_params(), values, where, *options)
        self._structure_changed()

    # Running

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run ``forward`` between the hooks. Errors are noted to come from here."""
        try:
            for hook in list(self._pre_hooks.values()):
                hook(self, args)
            out = self.forward(*args, **kwargs)
            for hook in list(self._hooks.values()):
                hook(self, args, out)
            return out
        except Exception as error:
            locate(error, self)
            raise

    def forward(self, *args: Any) -> Any:
        """The computation; to be overridden."""
        raise NotSupported(type(self).__name__, "a forward method", "none", "Define forward(self, x)")

    def hybridize(self, active: bool = True, **kwargs: Any) -> None:
        """Hybridize the children; a plain Block itself always runs imperatively."""
        for child in self._children.values():
            child.hybridize(active, **kwargs)

    def summary(self, *inputs: Any) -> None:
        """Run ``inputs`` through and print each layer's output shape and number of parameters."""
        print_summary(self, inputs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_parents": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._parents = weakref.WeakSet()
        for child in self._children.values():
            child._parents.add(self)
        for parameter in self._reg_params.values():
            parameter._owners.add(self)

    def __repr__(self) -> str:
        if not self._children:
            return f"{type(self).__name__}({self.extra_repr()})"
        rows = [f"({name}): " + re.sub(r"\n", "\n  ", repr(child)) for name, child in self._children.items()]
        return f"{type(self).__name__}(\n" + "".join(f"  {row}\n" for row in rows) + ")"

    def extra_repr(self) -> str:
        """What stands within the parentheses of ``repr``; to be overridden."""
        return ""
