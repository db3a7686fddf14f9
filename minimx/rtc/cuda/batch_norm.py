"""Batch normalisation with ReLU and residual add inside: operands, attributes and results as in csrc/cpu/batch_norm.cc.

What moves through memory, in units of the data: forward reads x for the sums, unless the convolution that made x gives
them (csrc/cpu/channel_sums.cc); reads x (and z), writes y. Backward reads x and dy for the sums; reads x and dy, writes
dx (and dz). A gradient in two parts: reads x, dy and more, writes g, for the sums; reads x and g, writes dx. The
bitmask of the ReLU is a bit an element. Nothing else is of that size: the sums of parts of the data, and what becomes
of them in one small kernel between the two passes.

Channels-last and C order are worked on as they are; an operand in any other order first gets a dense twin in scratch
memory. Not here: the running statistics (the rows update them). Read next: the kernels in batch_norm_text.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from ...errors import ArgumentError, ShapeError
from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from . import batch_norm_text as text
from .copy import cast
from .join import ZERO, paste_launch
from .recipe import Argument, Code, Launch, Operand, Recipe, Scratch, Value, blocks_for, code, placed

THREADS = 256
SUM_BLOCKS = 396  # of a pass over the data for sums: three on each multiprocessor of a large GPU; each leaves one part
APPLY_BLOCKS = 1584  # of an elementwise pass
BLOCKS_AT_ONCE = {2: 3, 4: 3, 8: 1}  # on a multiprocessor, by bytes of an element: what registers must suffice for
LANES = 32  # at most, of a block: threads side by side on one row


def batch_norm_fwd_train(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """(x, gamma, beta[, z]) -> y, mean, var[, mask]."""
    if empty := zeros(ins, outs):
        return empty
    b = Builder(ins, outs, attrs)
    x, z = b.read(0), b.read(3) if len(ins) > 3 else None
    y, mean, var = len(ins), len(ins) + 1, len(ins) + 2
    shared = {"relu": b.flag("relu"), "residual": z is not None, "mask": len(outs) > 3}
    partial, parts = b.sums(text.FORWARD, (x, x, Operand(y), Operand(mean)))
    coefficients = b.coefficients(2)
    b.finish(text.TRAIN, {"gamma": 1, "beta": 2, "mean": mean, "var": var}, coefficients, (x, partial, parts))
    mask = b.mask(y + 3) if shared["mask"] else Operand(y)
    b.apply(text.FORWARD, (x, z or x, mask, b.write(y), x), coefficients, shared)
    return b.recipe()


def batch_norm_fwd_sums(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """(x, gamma, beta, sum, squares[, z]) -> y, mean, var[, mask]."""
    if empty := zeros(ins, outs):
        return empty
    b = Builder(ins, outs, attrs)
    x, z, y = b.read(0), b.read(5) if len(ins) > 5 else None, len(ins)
    coefficients = b.coefficients(2)
    b.finish_sums((1, 2, 3, 4, y + 1, y + 2), coefficients)
    shared = {"relu": b.flag("relu"), "residual": z is not None, "mask": len(outs) > 3}
    mask = b.mask(y + 3) if shared["mask"] else Operand(y)
    b.apply(text.FORWARD, (x, z or x, mask, b.write(y), x), coefficients, shared)
    return b.recipe()


def batch_norm_fwd_pair(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """(x, gamma, beta, sum, squares, and the same of x2) -> y, mask, mean, var, mean2, var2."""
    if empty := zeros(ins, outs):
        return empty
    b = Builder(ins, outs, attrs)
    x, x2, y = b.read(0), b.read(5), len(ins)
    coefficients = b.coefficients(3)
    b.finish_sums((1, 2, 3, 4, y + 2, y + 3), coefficients)
    b.finish_sums((6, 7, 8, 9, y + 4, y + 5), coefficients, second=True)
    flags = dict.fromkeys(("relu", "residual", "pair", "mask"), True)
    b.apply(text.FORWARD, (x, x2, b.mask(y + 1), b.write(y), x), coefficients, flags)
    return b.recipe()


def channel_sums(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """(x) -> sum, squares: csrc/cpu/channel_sums.cc."""
    if empty := zeros(ins, outs):
        return empty
    b = Builder(ins, outs, attrs)
    x = b.read(0)
    partial, parts = b.sums(text.FORWARD, (x, x, x, Operand(1)))
    b.finish(text.CHANNEL_SUMS, {"sum": 1, "squares": 2}, x, (x, partial, parts))
    return b.recipe()


def batch_norm_infer(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """(x, gamma, beta, mean, var[, z]) -> y."""
    if empty := zeros(ins, outs):
        return empty
    b = Builder(ins, outs, attrs)
    x, z = b.read(0), b.read(5) if len(ins) > 5 else None
    coefficients = b.coefficients(2)
    b.finish(text.INFER, {"gamma": 1, "beta": 2, "mean": 3, "var": 4}, coefficients)
    b.apply(
        text.FORWARD,
        (x, z or x, Operand(len(ins)), b.write(len(ins)), x),
        coefficients,
        {"relu": b.flag("relu"), "residual": z is not None},
    )
    return b.recipe()


def batch_norm_bwd(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """(x, dy, mean, var, gamma[, mask[, more]]) -> dx, dgamma, dbeta[, dz]; ``more`` is added to dy. Of a pair
    (x, dy, mean, var, gamma, mask, x2, mean2, var2, gamma2[, more]) -> dx, dgamma, dbeta, dx2, dgamma2, dbeta2. The CPU
    has neither.
    """
    if empty := zeros(ins, outs):
        return empty
    b = Builder(ins, outs, attrs)
    if b.flag("relu") != (len(ins) > 5):
        raise ArgumentError(
            "batch_norm_bwd",
            "the forward's mask as sixth operand exactly where relu=1",
            f"{len(ins)} operands",
            "Pass the mask and set relu",
        )
    pair = 6 if len(outs) > 4 else 0  # where x2 is
    x, dy, mask = b.read(0), b.read(1), b.mask(5) if len(ins) > 5 else Operand(0)
    x2 = b.read(pair) if pair else None
    more = b.read(len(ins) - 1) if len(ins) == (11 if pair else 7) else None
    dx, dgamma, dbeta, dz = range(len(ins), len(ins) + 4)
    shared = {"mask": len(ins) > 5, "residual": len(outs) == 4}
    out, out2 = b.write(dx), b.write(dx + 3) if pair else None
    residual = b.write(dz) if shared["residual"] else b.data() if more else out
    kept = (more, residual) if more else ()
    partial, parts = b.sums(text.BACKWARD, (x, dy, mask, Operand(2)), 2, shared["mask"], kept, (x2, pair + 1))
    if more:  # the pass for the sums has left what is behind the ReLU
        dy, shared = residual, {"mask": False, "residual": False}
    coefficients = b.coefficients(6 if pair else 3)
    operands = [(2, 3, 4, dgamma, dbeta)] + [(pair + 1, pair + 2, pair + 3, dx + 4, dx + 5)] * bool(pair)
    for k, vectors in enumerate(operands):
        b.gradient(vectors, coefficients, (x, partial, parts), second=bool(k))
    pointers = (x, dy, mask, out, residual if shared["residual"] else out)
    b.apply(text.BACKWARD, pointers, coefficients, shared | {"pair": bool(pair)}, (x2, out2))
    return b.recipe()


def zeros(ins: Sequence[Spec], outs: Sequence[Spec]) -> Recipe | None:
    """What there is to do where an operand has no elements: zeros in the vectors of channels; None elsewhere."""
    if all(prod(s.shape) for s in ins):
        return None
    made = [paste_launch(s, Operand(len(ins) + i), ZERO) for i, s in enumerate(outs) if prod(s.shape)]
    return Recipe(tuple(made))


class Builder:
    """A recipe in the making. Data are [rows][channels][length] in memory; ``lanes``: channels last, length is 1."""

    def __init__(self, ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> None:
        self.specs, self.attrs, x = [*ins, *outs], attrs, ins[0]
        if len(x.shape) < 2:
            raise ShapeError("batch_norm", "data (N, C, *spatial)", x.shape, "Add a batch axis")
        self.dtype, self.shape, self.channels = x.dtype, x.shape, x.shape[1]
        space = prod(x.shape[2:])
        self.order = [0, *range(2, len(x.shape)), 1]  # axes from the slowest to the fastest
        self.lanes = space == 1 or (self.channels > 1 and self.dense(x))
        if not self.lanes:
            self.order.sort()
        self.rows, self.length = (x.shape[0] * space, 1) if self.lanes else (x.shape[0], space)
        self.padded = -(-self.channels // 8) * 8
        self.itemsize = BY_NAME[x.dtype].size
        self.real_bytes = max(4, self.itemsize)  # of a sum or a coefficient
        self.index = "int" if prod(x.shape) * self.itemsize <= 1 << 31 else "long long"
        self.launches: list[Launch] = []
        self.after: list[Launch] = []
        self.workspace = 0

    def flag(self, name: str) -> bool:
        return bool(self.attrs.get(name, 0))

    def stride(self, i: int) -> int:
        """Of a vector of channels."""
        return self.specs[i].strides[0]

    def dense(self, spec: Spec) -> bool:
        """True where the elements of ``spec`` follow each other in the order of axes ``self.order``."""
        return all(spec.shape[d] == 1 or spec.strides[d] == n for d, n in self.strides(spec).items())

    def strides(self, spec: Spec) -> dict[int, int]:
        """The stride of each axis in dense memory."""
        found, n = {}, 1
        for d in reversed(self.order):
            found[d] = n
            n *= spec.shape[d]
        return found

    # ---- memory -----------------------------------------------------------------------------------------------------

    def scratch(self, size: int) -> Scratch:
        at = self.workspace
        self.workspace += -(-size // 256) * 256
        return Scratch(at)

    def coefficients(self, count: int) -> Scratch:
        return self.scratch(count * self.padded * self.real_bytes)

    def data(self) -> Scratch:
        """Room for as much as x."""
        return self.scratch(prod(self.shape) * self.itemsize)

    def read(self, i: int) -> Argument:
        """Operand ``i`` as dense data of x's type: itself, or a twin that is filled first."""
        spec = self.specs[i]
        if spec.shape != self.shape:
            raise ShapeError("batch_norm", f"data {self.shape}", spec.shape, "Broadcast it first")
        if spec.dtype == self.dtype and self.dense(spec):
            return Operand(i)
        twin = self.data()
        self.launches += placed(cast([spec], [self.dense_spec(spec)], {}), Operand(i), twin)
        return twin

    def write(self, i: int) -> Argument:
        """Result ``i`` as dense data of x's type: itself, or a twin from which it is filled afterwards."""
        spec = self.specs[i]
        if spec.dtype == self.dtype and self.dense(spec):
            return Operand(i)
        twin = self.data()
        self.after += placed(cast([self.dense_spec(spec)], [spec], {}), twin, Operand(i))
        return twin

    def mask(self, i: int) -> Argument:
        """Operand ``i``, the bitmask of a ReLU; csrc/cpu/batch_norm.h says how many bytes the rows give it."""
        eights = self.rows * self.padded // 8 if self.lanes else -(-prod(self.shape) // 8)
        spec = self.specs[i]
        if spec.dtype != "uint8" or len(spec.shape) != 1 or spec.strides[0] != 1 or spec.shape[0] < eights:
            raise ArgumentError(
                "batch_norm",
                f"a contiguous uint8 mask of {eights} bytes",
                f"{spec.dtype} {spec.shape}",
                "Allocate batch_norm_mask_bytes(x)",
            )
        return Operand(i)

    def dense_spec(self, spec: Spec) -> Spec:
        """Of the dense twin."""
        strides = self.strides(spec)
        return Spec(spec.shape, self.dtype, tuple(strides[d] for d in range(len(spec.shape))))

    # ---- kernels ----------------------------------------------------------------------------------------------------

    def code(self, name: str, body: str, types: dict[str, int], groups: int = 1, **flags: bool) -> Code:
        """``body`` behind the types and constants that it names. types: which operand's type a name stands for."""
        names = {"T": BY_NAME[self.dtype].ctype, "Real": "double" if self.itemsize == 8 else "float"}
        names |= {"Index": self.index, "Mean": "float", "Mean2": "float"}
        names |= {name: BY_NAME[self.specs[i].dtype].ctype for name, i in types.items()}
        lines = [f"using {name} = {ctype};" for name, ctype in names.items()]
        blocks = BLOCKS_AT_ONCE[self.itemsize]
        if flags.get("pair") and not flags["residual"]:  # the gradient of a pair holds twice as much
            blocks = min(blocks, 2)
        constants: dict[str, int] = {"int kGroups": groups, "int kBlocks": blocks}
        constants |= {f"bool k{name.capitalize()}": on for name, on in flags.items()} | {"bool kLanes": self.lanes}
        lines += [f"[[maybe_unused]] constexpr {k} = {str(value).lower()};" for k, value in constants.items()]
        return code(f"batch_norm_{name}", "\n".join(lines) + "\n" + body)

    def groups(self, reads: int) -> int:
        """Eights that a thread of a pass has under way in each of ``reads`` operands: 64 bytes in all, if that many."""
        return max(1, 8 // self.itemsize // reads)

    def geometry(self, groups: int, most: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Grid and block of a walk over lanes, of about ``most`` blocks where there is work for them."""
        eights = self.padded // 8
        across = -(-eights // LANES)
        wide = -(-eights // across)
        tall = THREADS // wide
        return (across, blocks_for(self.rows, tall * groups, max(1, most // across)), 1), (wide, tall, 1)

    def sums(
        self,
        step: str,
        pointers: tuple[Argument, ...],
        mean: int = -1,
        masked: bool = False,
        kept: tuple[Argument, ...] = (),
        pair: tuple[Argument | None, int] = (None, -1),
    ) -> tuple[Scratch, int]:
        """The pass that adds up each channel's parts. Returns where the sums are, (2 or 3, parts, padded), and parts.

        mean: the operand, backward. kept: the second part of the gradient, and where the whole goes. pair: x2 and the
        operand that is its mean.
        """
        x2, mean2 = pair
        groups = self.groups((2 if step is text.BACKWARD else 1) + bool(kept))
        walk = text.KEEP + (text.SUM_LANES if self.lanes else text.SUM_RUNS)
        body = text.HEAD + step + walk + text.SUM_KERNEL
        flags = {"pair": x2 is not None, "mask": masked, "more": bool(kept)}
        flags |= dict.fromkeys(("relu", "residual", "last"), False)
        types = {"Mean": mean} if mean >= 0 else {}
        types |= {"Mean2": mean2} if x2 is not None else {}
        kernel = self.code("sums", body, types, groups, **flags)
        if self.lanes:
            grid, block = self.geometry(groups, SUM_BLOCKS)
        else:
            eights = self.rows * (-(-self.length // 8))
            parts = blocks_for(eights, THREADS * groups, max(1, -(-2 * SUM_BLOCKS // self.channels)))
            grid, block = (self.channels, parts, 1), (THREADS, 1, 1)
        partial = self.scratch((2 if x2 is None else 3) * grid[1] * self.padded * self.real_bytes)
        second = (pointers[0], pointers[3]) if x2 is None else (x2, Operand(mean2))
        strides = (self.stride(mean) if mean >= 0 else 1, self.stride(mean2) if x2 is not None else 1)
        sizes = map(Value, (self.rows, self.channels, self.length, *strides))
        args = (*pointers, *second, partial, *(kept or pointers[:1] * 2), *sizes)
        self.launches.append(Launch(kernel, grid, block, args))
        return partial, grid[1]

    def finish(
        self,
        body: str,
        vectors: dict[str, int],
        coefficients: Argument,
        found: tuple[Argument, Argument, int] | None = None,
        second: bool = False,
    ) -> None:
        """What is done once a channel. vectors: operands by the name that ``body`` has for them. found: the data, the
        partial sums and how many parts these have, where the body wants totals. second: of a pair, with eps2.
        """
        x, partial, parts = found or (coefficients, coefficients, 0)
        types = {name.title() if name[0] != "d" else f"D{name[1:].title()}": i for name, i in vectors.items()}
        pairs = [f"{t}* {name}, int64_t {name}_stride" for t, name in zip(types, vectors, strict=True)]
        declared = f",\n{' ' * 34}".join(pairs)
        source = text.TOTALS + text.SCALE + text.FINISH.replace("VECTORS", declared).replace("BODY", body)
        flags = {"global": self.flag("global_stats"), "second": second, "totals": found is not None}
        kernel = self.code("finish", source, types, **flags)
        sizes = map(Value, (parts, self.rows, self.channels, self.length))
        eps = Value(self.attrs.get("eps2" if second else "eps", 0.0), "float64")
        args = [x, partial, coefficients, *sizes, eps]
        for i in vectors.values():
            args += [Operand(i), Value(self.stride(i))]
        if found:
            block, grid = (8, min(64, 1 << (parts - 1).bit_length()), 1), (self.padded // 8, 1, 1)
        else:
            block, grid = (THREADS, 1, 1), (blocks_for(self.channels, THREADS), 1, 1)
        self.launches.append(Launch(kernel, grid, block, tuple(args)))

    def finish_sums(self, vectors: tuple[int, ...], coefficients: Scratch, second: bool = False) -> None:
        """Mean, variance and coefficients from sums; vectors: gamma, beta, sum, squares, mean and var."""
        named = dict(zip(("gamma", "beta", "sum", "squares", "mean", "var"), vectors, strict=True))
        self.finish(text.SUMS, named, coefficients, second=second)

    def gradient(
        self,
        vectors: tuple[int, ...],
        coefficients: Scratch,
        found: tuple[Argument, Argument, int],
        second: bool = False,
    ) -> None:
        """Gradients of the parameters, and coefficients; vectors: mean, var, gamma, dgamma and dbeta."""
        named = dict(zip(("mean", "var", "gamma", "dgamma", "dbeta"), vectors, strict=True))
        self.finish(text.GRADIENT, named, coefficients, found, second)

    def apply(
        self,
        step: str,
        pointers: tuple[Argument, ...],
        coefficients: Scratch,
        flags: dict[str, bool],
        second: tuple[Argument | None, Argument | None] = (None, None),
    ) -> None:
        """The elementwise pass. pointers: the kernel's first five; second: x2 and dx2; flags: relu, residual, pair and
        mask.
        """
        x2, out2 = second
        flags = {"relu": False, "residual": False, "pair": False, "mask": False} | flags
        groups = self.groups(2 if step is text.BACKWARD or flags["residual"] else 1)
        body = text.HEAD + step + (text.APPLY_LANES if self.lanes else text.APPLY_RUNS) + text.APPLY_KERNEL
        kernel = self.code("apply", body, {}, groups, **flags, more=False, last=True)
        if self.lanes:
            grid, block = self.geometry(groups, APPLY_BLOCKS)
        else:
            eights = -(-prod(self.shape) // 8)
            grid, block = (blocks_for(eights, THREADS * groups, APPLY_BLOCKS), 1, 1), (THREADS, 1, 1)
        sizes = map(Value, (self.rows, self.channels, self.length))
        args = (*pointers, x2 or pointers[0], out2 or pointers[3], coefficients, *sizes)
        self.launches.append(Launch(kernel, grid, block, args))

    def recipe(self) -> Recipe:
        return Recipe((*self.launches, *self.after), self.workspace)


FACTORIES = {
    "batch_norm_fwd_train": batch_norm_fwd_train,
    "batch_norm_fwd_sums": batch_norm_fwd_sums,
    "batch_norm_fwd_pair": batch_norm_fwd_pair,
    "channel_sums": channel_sums,
    "batch_norm_infer": batch_norm_infer,
    "batch_norm_bwd": batch_norm_bwd,
}
