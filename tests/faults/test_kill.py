from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_killed_at_random_moments_nothing_finished_is_lost_and_nothing_wrong_is_read():
    """A sample; `python tests/faults/kill.py` does 200 moments and 30 sweeps."""
    script = Path(__file__).with_name("kill.py")
    arguments = ["--moments", "5", "--sweeps", "1", "--seed", str(int.from_bytes(sys.version.encode()) % 1000)]
    done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "in all" in done.stdout
