"""Training: recipes, the loop, networks trained at once with stacked weights, parameters as one vector."""
