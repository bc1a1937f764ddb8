"""Numbers, counts and lists as text."""
