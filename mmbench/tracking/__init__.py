"""Shows what a store holds in Weights & Biases. The store is the truth: all is read from it, and nothing depends on this.

One process beside the sweep talks to the client, for a limited time per model; whatever becomes of it, no run notices.
"""
