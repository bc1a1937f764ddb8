import pandas as pd

from mmbench.report.figures.regret import highlighted


def test_the_figure_names_the_claim_the_baselines_and_the_best_and_no_more_than_eight():
    roles = {"manifold": "", "parameters": "baseline", "random": "negative control"}
    roles |= {f"m{place}": "" for place in range(12)}
    rows = pd.DataFrame({"metric": list(roles), "role": list(roles.values())})
    curve = pd.DataFrame({"metric": list(roles), "k": 1, "regret": [5.0, 5, 0, *range(12, 0, -1)], "cost": 0.1})
    assert highlighted(rows, curve) == ["manifold", "parameters", "m11", "m10", "m9", "m8", "m7", "m6"]
