"""Operators that expand a base network into a larger one: one operator per file."""
