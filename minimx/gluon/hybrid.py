"""HybridBlock: a block that ``hybridize()`` turns into a graph, traced from its own imperative code.

Not here: the tracing and the graph (minimx/graph). A block says ``forward(self, x)`` (Gluon 2) or
``hybrid_forward(self, F, x, weight)`` (Gluon 1); a layer whose parameter shapes depend on the input says
``infer_shape(self, x)``.
"""

from __future__ import annotations

from typing import Any

from .. import autograd, np, npx
from ..errors import ArgumentError, ArgumentTypeError, NotSupported, ShapeError
from ..ndarray import _core
from .block import Block
from .located import locate
from .parameter import Parameter

__all__ = ["HybridBlock"]


class HybridBlock(Block):
    """A block that runs imperatively until ``hybridize()``, and then as a compiled graph per input signature.

    All its children are hybrid too. Values must not decide the flow of Python in ``forward``; shapes may.
    """

    def __init__(self, prefix: str | None = None, params: Any = None) -> None:
        super().__init__(prefix, params)
        self._active = False
        self._flags: dict[str, bool] = {}
        self._cached: Any = None
        self._params_ready = False  # own parameters have values
        self._all_ready = False  # and those of all blocks below

    def register_child(self, block: Block, name: str | None = None) -> None:
        """Add a child, which must be a HybridBlock: ArgumentTypeError otherwise."""
        if not isinstance(block, HybridBlock):
            where = f"{type(self).__name__}.{len(self._children) if name is None else name}"
            way_out = "Derive it from HybridBlock, or derive the parent from Block (Sequential for HybridSequential)"
            raise ArgumentTypeError(where, "a HybridBlock as child of a HybridBlock", type(block).__name__, way_out)
        super().register_child(block, name)

    def _structure_changed(self) -> None:
        self._cached, self._params_ready, self._all_ready = None, False, False
        super()._structure_changed()

    def hybridize(
        self, active: bool = True, static_alloc: bool = False, static_shape: bool = False, **kwargs: Any
    ) -> None:
        """Run as a graph from now on (``active=False``: imperatively again), this block and all below.

        static_alloc: memory is planned once for a signature and kept. static_shape: moreover the launches are (needs
        static_alloc). Further arguments of Gluon's are accepted and mean nothing here.
        """
        if static_shape and not static_alloc:
            way_out = "Pass static_alloc=True as well"
            raise NotSupported("hybridize", "static_alloc=True with static_shape=True", "static_alloc=False", way_out)
        self._active, self._cached = active, None
        self._flags = {"static_alloc": static_alloc, "static_shape": static_shape}
        super().hybridize(active, static_alloc=static_alloc, static_shape=static_shape, **kwargs)

    def optimize_for(self, x: Any, *args: Any, backend: str | None = None, clear: bool = False, **kwargs: Any) -> None:
        """Hybridize and run once on sample inputs, so that all compiling is done. There is one backend."""
        if backend not in (None, ""):
            raise NotSupported("optimize_for", "no backend, which is minimx's own", repr(backend), "Leave backend out")
        self.hybridize(True, **kwargs)
        self(x, *args)
        if self._cached is None:  # the first run settled shapes
            self(x, *args)

    def graph(self, *args: Any) -> Any:
        """The graph of this block for inputs like ``args``; ``net.graph(x).pretty()`` prints it."""
        self._settle(*args)
        return self._cached_graph().graph(*args)

    def graph_passes(self, *args: Any, training: bool | None = None) -> list[tuple[str, Any]]:
        """The graph after each pass, as (name of the pass, Graph); ``training``: with the gradient of the parameters.

        The first is the graph as traced; passes named ``forward: ...`` or ``backward: ...`` saw one half only. Without
        arguments: of the last call as a graph, in its mode. Raises ArgumentError where there was none.
        """
        from ..graph.report import compiled_anew

        return compiled_anew(*self._looked_at("graph_passes", args, training))[0]

    def fusion_report(self, *args: Any, training: bool | None = None, time: bool = False) -> Any:
        """Which kernels this block becomes for inputs like ``args``, what they read and write, and what stayed apart.

        A FusionReport (minimx/graph/report.py): print it, or look at ``kernels[i].source``. time: runs each kernel a
        few times as well (on copies of what it writes to), for microseconds and GB/s. Without arguments as above.
        """
        from ..graph.report import fusion_report

        return fusion_report(*self._looked_at("fusion_report", args, training), time)

    def _looked_at(self, where: str, args: tuple, training: bool | None) -> tuple[Any, tuple, bool]:
        """The CachedGraph, arguments, and whether gradients are wanted: as given, or as in the last call."""
        if args:
            self._settle(*args)
            return self._cached_graph(), args, bool(training)
        last = self._cached.last() if self._cached is not None else None
        if last is None:
            way_out = "Pass arrays like those of a call, or call the block after hybridize()"
            raise ArgumentError(f"{type(self).__name__}.{where}", "arguments, or a call as a graph", "none", way_out)
        return self._cached, last[0], last[1] if training is None else training

    def _settle(self, *args: Any) -> None:
        """Makes parameters that wait for a shape, by a run that changes nothing else."""
        if not self._ready_below():
            with autograd.pause():
                self._call_eager(*args)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_cached": None}

    def infer_shape(self, *args: Any) -> None:
        """Set the unknown sizes of the own parameters from the inputs; layers override it. Raises ShapeError."""
        unknown = [f"{name} {p.shape}" for name, p in self._reg_params.items() if not p.is_shape_known]
        way_out = "Define infer_shape(self, x) that sets self.weight.shape and so on, or give all sizes"
        raise ShapeError(type(self).__name__, "parameters of known shape", ", ".join(unknown), way_out)

    def infer_type(self, *args: Any) -> None:
        """Gluon's hook for types; parameters keep the types they were made with."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run ``forward``, or its graph, between the hooks. Errors are noted to come from here."""
        try:
            if self._pre_hooks:
                for hook in list(self._pre_hooks.values()):
                    hook(self, args)
            if self._active and not kwargs and not _core.is_tracing() and (self._cached or self._ready_below()):
                out = (self._cached or self._cached_graph())(*args)
            elif self._params_ready:  # the usual imperative call, one Python frame less
                out = self.forward(*args, **kwargs)
            else:
                out = self._call_eager(*args, **kwargs)
            if self._hooks:
                for hook in list(self._hooks.values()):
                    hook(self, args, out)
            return out
        except Exception as error:
            locate(error, self)
            raise

    def _ready_below(self) -> bool:
        """True when no parameter waits for a shape; until then calls run imperatively, which settles them."""
        if not self._all_ready:
            self._all_ready = not any(p._deferred for p in self.collect_params().values())
        return self._all_ready

    def _cached_graph(self) -> Any:
        if self._cached is None:
            from ..graph.cached import CachedGraph

            flags = self._flags or {"static_alloc": False, "static_shape": False}
            self._cached = CachedGraph(self, flags["static_alloc"], flags["static_shape"])
        return self._cached

    def _call_eager(self, *args: Any, **kwargs: Any) -> Any:
        """Forward as Python runs it; under a trace it is this that is traced."""
        if not self._params_ready:
            self._finish_deferred(*args)
        return self.forward(*args, **kwargs)

    def _finish_deferred(self, *args: Any) -> None:
        """Settle the shapes of the own parameters from the first inputs, and make those that wait."""
        own = self._reg_params.values()
        if not all(p.is_shape_known for p in own):
            self.infer_shape(*args)
        for parameter in own:
            parameter.finish_deferred_init()
        self._params_ready = all(p._arrays for p in own)

    def forward(self, x: Any, *args: Any) -> Any:
        """The computation: override this, or ``hybrid_forward``."""
        if type(self).hybrid_forward is HybridBlock.hybrid_forward:
            raise NotSupported(type(self).__name__, "a forward method", "none", "Define forward(self, x)")
        array = next((a for a in (x, *args) if hasattr(a, "device")), None)
        params = {name: p.data() if array is None else p.beside(array) for name, p in self._reg_params.items()}
        return self.hybrid_forward(F, x, *args, **params)

    def hybrid_forward(self, F: Any, x: Any, *args: Any, **kwargs: Parameter) -> Any:  # noqa: N803
        """Gluon 1's form of ``forward``: ``F`` has the operators, own parameters come as keyword arguments."""
        raise NotSupported(type(self).__name__, "a hybrid_forward method", "none", "Define forward(self, x)")


class _Operators:
    """``F`` of hybrid_forward: names of ``mx.nd`` first (Gluon 1), then npx and np; ``F.np`` and ``F.npx`` as well."""

    np, npx = np, npx

    def __getattr__(self, name: str) -> Any:
        from .. import nd

        for module in (nd, npx, np):
            if hasattr(module, name):
                setattr(self, name, getattr(module, name))
                return getattr(module, name)
        raise AttributeError(f"F.{name}: expected an operator of mx.nd, mx.npx or mx.np, got no such name.")


F = _Operators()
