"""Logs to Weights & Biases what a store holds. Everything is read from the store, and no result depends on it.

One process beside the sweep talks to the client, for a limited time per model; whatever happens there, no run notices.
"""
