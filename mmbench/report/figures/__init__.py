"""Figures for papers and for the report, one kind a file. Each function returns a `Figure`; none saves it."""
