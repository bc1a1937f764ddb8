"""The statistics of a frame of records."""
