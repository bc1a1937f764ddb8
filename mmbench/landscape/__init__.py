"""The numerical core that metrics share: losses at points and along paths, curvature, branches. It knows no metric."""
