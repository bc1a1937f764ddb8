"""Timings, as ratios within one run; studies/ holds what only a study needs."""
