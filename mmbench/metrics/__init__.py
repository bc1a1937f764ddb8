"""Scalars read off an expanded model before it is trained: one metric per file."""
