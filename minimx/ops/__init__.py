"""The operator table: one row for each operator, from which all else about it is derived.

Rows are in minimx/ops/rows, what a kind of row means in minimx/ops/kinds, the table itself in minimx/ops/table.py, and
what the C++ build takes from it in minimx/ops/emit.py. Standard library only at import, since the build runs it too.
"""
