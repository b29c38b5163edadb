"""Walks over syntax trees, as the compiler's passes ask for them: the machine's own (`machine.trees`)."""

from contrapas.machine.trees import FIELDS, children, statements, walk

__all__ = ["FIELDS", "children", "statements", "walk"]
