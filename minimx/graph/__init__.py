"""Graphs: trace, IR, passes, memory plan, lowering; how ``hybridize()`` works. Essay: docs/graph.md."""
