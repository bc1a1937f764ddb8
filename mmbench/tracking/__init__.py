"""Shows in Weights & Biases what a store holds. The store is the truth: all is read there, and nothing depends on this.

One process beside the sweep talks to the client, for a limited time per model; whatever becomes of it, no run notices.
"""
