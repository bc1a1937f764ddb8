"""Data sources: one file per kind; each yields resident, normalised tensors."""
