"""Logs the models of a store to Weights & Biases. Everything is read from the store, and no result depends on it.

A separate process talks to the W&B client, for a limited time per model; no failure there affects a run.
"""
