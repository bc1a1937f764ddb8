import numpy as np
import pytest

from mmbench.report.figures.scatter import axis_scale, scatter
from mmbench.report.figures.style import Looks
from mmbench.statistics.configurations import configurations, runs
from mmbench.statistics.judge import ranked


def test_there_is_a_mark_for_every_configuration_and_every_run(sweep_frame, judged):
    units, counted = configurations(sweep_frame, "gain"), runs(sweep_frame, "gain")
    for row in ranked(judged.correlations).to_dict("records"):
        mine = units[units["metric"] == row["metric"]]
        if mine.empty:
            continue
        axes = scatter(mine, counted[counted["metric"] == row["metric"]], row, Looks.of_runs(sweep_frame)).axes[0]
        drawn = {size: [point for line in axes.lines if line.get_marker() != "None" and line.get_markersize() == size
                        for point in zip(*line.get_data(), strict=True)] for size in (7, 3.5)}  # fmt: skip
        assert sorted(drawn[7]) == sorted(zip(mine["score"], mine["target"], strict=True))
        assert len(drawn[3.5]) == mine.loc[mine["n"] > 1, "n"].sum()


@pytest.mark.parametrize(
    ("scores", "scale"),
    [
        ([1, 2, 3], "linear"),
        ([0, 0], "linear"),
        ([0.01, 1, 50], "log"),
        ([-1e-4, 0.3, -0.5, 0.8], "linear"),
        ([-1e6, -1, 0, 1, 2, 1e5], "symlog"),
    ],
)
def test_axes_are_logarithmic_where_scores_span_decades(scores, scale):
    assert axis_scale(np.array(scores, dtype=float))[0] == scale
