"""Figures for papers and for the report, one kind per file. Each function returns a `Figure`; none saves it."""
