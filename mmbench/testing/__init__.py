"""Contract tests that a component of an outside package can inherit."""
