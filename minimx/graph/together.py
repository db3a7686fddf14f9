"""Steps that run together on a GPU: equal small kernels over arrays of their own become one launch.

It is made for updates of parameters: what the rule does to each is one fused node, and the nodes are equal but for
their arrays. Steps are moved to an earlier place, and only such as write to inputs of the graph, or to nothing but
outputs, or read nothing but inputs. So no intermediate lives longer but for those of updates, which wait for the norms
of all anyway (LAMB), and what is made of parameters alone, such as casts of them.
The kernel: minimx/rtc/cuda/many.py. Read next: lower.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..rtc.cuda.kernel import Pending, wanted_many
from ..rtc.cuda.many import joinable, most


def together(steps: Sequence[Any]) -> list[Any]:
    """The steps (lower.Step) with those that may run as one joined, in an order that gives the same results."""
    out: list[list[Any]] = []  # each a list of steps that run together
    written: dict[Any, int] = {}  # block -> the last place in ``out`` that writes it
    touched: dict[Any, int] = {}  # or reads it
    open_at: dict[Any, int] = {}  # key of a group -> its last place, while there is room
    room: dict[Any, int] = {}  # key of a group -> how many steps one launch takes
    for s in steps:
        reads, writes = split(s)
        earliest = max([written.get(b, -1) for b in reads] + [touched.get(b, -1) for b in writes], default=-1)
        key = key_of(s, reads, writes)
        at = open_at.get(key, -1) if key is not None else -1
        if at > earliest:
            out[at].append(s)
            if len(out[at]) >= room[key]:
                del open_at[key]
        else:
            at = len(out)
            out.append([s])
            if key is not None:
                open_at[key] = at
                room[key] = room.get(key) or most(s.kernel.group)
        for b in writes:
            written[b] = max(written.get(b, -1), at)
        for b in (*reads, *writes):
            touched[b] = max(touched.get(b, -1), at)
    return [joined(unit) for unit in out]


def split(s: Any) -> tuple[list, list]:
    """(blocks read, blocks written) by a step; of a kernel that says nothing of its outputs, all are both."""
    blocks = [b for b, _ in s.operands]
    if not isinstance(s.kernel, Pending):
        return blocks, blocks
    outs = s.kernel.outputs
    return blocks[: len(blocks) - outs], blocks[len(blocks) - outs :]


def key_of(s: Any, reads: Sequence[Any], writes: Sequence[Any]) -> Any:
    """Steps of one key may run together; None: this one runs alone."""
    group = s.kernel.group if isinstance(s.kernel, Pending) else None
    if group is None or not joinable(group):
        return None
    made, given = {b.kind for b in writes}, {b.kind for b in reads}
    if "in" not in made and not made <= {"out"} and not given <= {"in"}:
        return None
    return (group.key, s.kernel.device_id)


def joined(unit: list[Any]) -> Any:
    """One step for all of a unit."""
    if len(unit) == 1:
        return unit[0]
    first = unit[0]
    kernel = wanted_many([s.kernel for s in unit])
    operands, nodes = [x for s in unit for x in s.operands], [n for s in unit for n in s.nodes]
    return type(first)(kernel, f"{len(unit)} {first.name}", operands, nodes=nodes)
