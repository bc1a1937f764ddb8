"""What a frame of records supports."""
