"""The records of a store as one frame."""
