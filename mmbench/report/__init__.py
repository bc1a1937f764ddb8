"""From a frame of records to tables, figures and a page."""
