"""Training: recipes, the one loop, stacked networks, parameters as one vector."""
