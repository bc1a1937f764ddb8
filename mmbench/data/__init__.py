"""Data sources: one file per kind. Each returns three splits of normalised images in memory."""
