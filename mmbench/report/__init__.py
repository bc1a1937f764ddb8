"""Makes tables, figures and a page from a frame of records."""
