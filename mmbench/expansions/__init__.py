"""Operators that turn a base network into a larger one: one operator per file."""
