"""What the two passes that choose layouts share: values exist in several forms, conversions are made at most once.

A form is named by a string, "" for the one that the traced code sees. The graph's inputs and outputs keep that one.
Who chooses, and what a conversion is: layout.py for the CPU, layout_gpu.py for GPUs.
"""

from __future__ import annotations

from typing import Any

from ..ir import Graph, Node, Value


class Assignment:
    """A graph while it is written anew, node by node, over values in the forms that its nodes want."""

    def __init__(self, g: Graph) -> None:
        self.g = g
        self.nodes: list[Node] = []
        self.forms: dict[Value, dict[str, Value]] = {}  # a value of the old graph in the forms that exist
        self.main: dict[Value, str] = {}  # the form it was made in
        self.results = set(g.results())

    def run(self) -> Graph:
        """The graph, rewritten in place."""
        for v in (*self.g.inputs, *self.g.constants):
            self.forms[v], self.main[v] = {"": v}, ""
        for n in self.g.nodes:
            self.place(n)
            for v in n.outputs:
                if v in self.results:  # right here, so that the other form need not live to the end
                    self.form(v, "")
        self.g.nodes = self.nodes
        self.g.outputs = [self.form(v, "") for v in self.g.outputs]
        self.g.writes = [(target, self.form(v, "")) for target, v in self.g.writes]
        return self.g

    def place(self, n: Node) -> None:
        """Calls ``emit`` with what the node should run in."""
        raise NotImplementedError

    def converted(self, v: Value, form: str) -> Value:
        """Adds the nodes that make ``form`` of a value, from the forms that exist."""
        raise NotImplementedError

    def new(self, v: Value, form: str) -> Value:
        """What stands for an output ``v`` that is made in ``form``."""
        raise NotImplementedError

    def form(self, v: Value, form: str) -> Value:
        """``v`` in a form; puts in a conversion if it does not exist yet."""
        made = self.forms[v]
        if form not in made:
            made[form] = self.converted(v, form)
        return made[form]

    def emit(self, n: Node, wanted: list[str], outs: list[str]) -> None:
        """The node, with its operands in the wanted forms (one per input), outputs in theirs."""
        inputs: list[Any] = [
            self.form(x, w) if isinstance(x, Value) else x for x, w in zip(n.inputs, wanted, strict=True)
        ]
        outputs = []
        for v, form in zip(n.outputs, outs, strict=True):
            new = self.new(v, form)
            self.forms[v], self.main[v] = {form: new}, form
            outputs.append(new)
        self.nodes.append(Node(n.op, inputs, outputs, n.attrs, n.site, n.body))

    def emit_plain(self, n: Node) -> None:
        """The node as it was."""
        self.emit(n, [""] * len(n.inputs), [""] * len(n.outputs))
