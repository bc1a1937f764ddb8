"""What following a metric would have cost and gained is told from the records."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from mmbench.advice.evidence import track_record


def records(**changes: Any) -> pd.DataFrame:
    """Two choices among three expansions: the metric prefers the best in one, the worst in the other."""
    rows = []
    for base, gains, scores in (("a", (0.01, 0.02, 0.06), (1, 2, 3)), ("b", (0.00, 0.03, 0.09), (9, 8, 7))):
        for at, (gain, score) in enumerate(zip(gains, scores, strict=True)):
            rows.append({
                "run_id": f"{base}{at}", "status": "done", "dataset": "digits", "model": "vit", "metric": "margin",
                "base_configuration": base, "configuration": f"{base}{at}", "expansion": f"operator{at}", "seed": 0,
                "arm": "expansion", "axis": "width", "budget": 2.0, "score": score, "gain": gain, "expected_sign": 1,
                "final_accuracy": 0.5 + gain, **changes,
            })  # fmt: skip
    return pd.DataFrame(rows)


def test_what_following_a_metric_lost_and_gained() -> None:
    """Lost: 0 and 9 points; at random 6 - 3 and 9 - 4 would be lost."""
    (sentence,) = track_record(records(), "vit", {"margin": ""})
    assert sentence.startswith(
        "On 6 earlier configurations of a vit (2 choices at equal budget), choosing by margin lost"
    )
    assert (
        "lost 4.5 points of test accuracy against the best and was 0.5 points worse than picking at random" in sentence
    )


def test_the_expected_sign_decides_what_is_chosen() -> None:
    """Turned, the metric chooses the worst in the first and the best in the second: lost 5 and 0."""
    (sentence,) = track_record(records(expected_sign=-1), "vit", {"margin": ""})
    assert "lost 2.5 points of test accuracy against the best and gained 1.5 points over picking at random" in sentence


@pytest.mark.parametrize(
    "changes",
    [{"model": "mlp"}, {"metric": "depth"}, {"arm": "control"}, {"status": "failed"}],
    ids=["another family", "another metric", "controls", "failures"],
)
def test_without_evidence_it_says_so(changes: dict[str, Any]) -> None:
    (sentence,) = track_record(records(**changes), "vit", {"margin": ""})
    assert sentence.startswith("There is no evidence on margin")


def test_one_candidate_is_no_choice() -> None:
    frame = records()
    (sentence,) = track_record(frame[frame["configuration"].isin(["a0", "b0"])], "vit", {"margin": ""})
    assert sentence.startswith("There is no evidence on margin")


def test_every_metric_has_its_sentence() -> None:
    both = track_record(records(), "vit", {"margin": "", "depth": ""})
    assert len(both) == 2
    assert "depth" in both[1]


def test_several_metrics_are_judged_by_their_mean_rank_too() -> None:
    """Margin prefers the best and the worst (lost 0 and 9); with twice the other, the best and the middle (0, 6)."""
    other = records(metric="depth")
    other["score"] = [1, 2, 3, 2, 9, 1]
    third = records(metric="fisher")
    third["score"] = [1, 2, 3, 1, 8, 2]
    frame = pd.concat([records(), other, third], ignore_index=True)
    frame["run_id"] = frame.index.astype(str)
    joint, *each = track_record(frame, "vit", dict.fromkeys(("margin", "depth", "fisher"), ""))
    assert "6 earlier configurations" in joint and "(2 choices" in joint
    assert "by the mean rank of margin and depth and fisher lost 3.0 points" in joint
    assert len(each) == 3 and "lost 4.5 points" in each[0]


def test_only_what_defines_a_metric_parts_it_and_the_definition_in_use_is_preferred() -> None:
    """One definition with another recipe's id for each base model; and more records of another one, turned."""
    known = records(definition="margin()")
    known["metric_id"] = known["base_configuration"]
    other = pd.concat([records(definition="margin(images=9)", seed=seed) for seed in (0, 1)])
    other["score"] *= -1
    frame = pd.concat([known, other], ignore_index=True)
    frame["run_id"] = frame.index.astype(str)
    (sentence,) = track_record(frame, "vit", {"margin": "margin()"})
    assert sentence.startswith("On 6 earlier configurations of a vit (2 choices")
    assert "lost 4.5 points" in sentence
    (sentence,) = track_record(frame, "vit", {"margin": "margin(images=9)"})
    assert "(2 choices" in sentence and "lost 2.5 points" in sentence
    (sentence,) = track_record(frame, "vit", {"margin": "margin(images=64)"})
    assert "(2 choices" in sentence
