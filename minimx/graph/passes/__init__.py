"""Passes: small functions graph -> graph, in the order in which ``compile.py`` runs them."""
