from __future__ import annotations

import sys

import pytest

from .kill import main


def test_killed_at_random_moments_nothing_finished_is_lost_and_nothing_wrong_is_read(monkeypatch, capsys):
    """A sample; `python -m tests.faults.kill` does 200 moments and 30 sweeps."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(SystemExit) as end:
        main(["--moments", "5", "--sweeps", "1", "--seed", str(int.from_bytes(sys.version.encode()) % 1000)])
    said = capsys.readouterr().out
    assert not end.value.code, said
    assert said.count("in all") == 2
