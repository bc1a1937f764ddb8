from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


def test_the_wheel_works_from_an_empty_folder(tmp_path):
    """Built, unpacked beside nothing of the checkout, and run from elsewhere: conf and sweeps must be inside."""
    checkout = Path(__file__).parents[2]
    shutil.copytree(
        checkout,
        tmp_path / "source",
        ignore=shutil.ignore_patterns(".venv", ".git", "results", "__pycache__", ".*_cache"),
    )
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=tmp_path / "source", check=True, capture_output=True)
    shutil.unpack_archive(next((tmp_path / "dist").glob("*.whl")), tmp_path / "site", "zip")
    (tmp_path / "empty").mkdir()
    code = "import sys, mmbench; from mmbench.cli.main import main; print(mmbench.__file__); main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "plan", "sweeps=quickstart"],
        cwd=tmp_path / "empty",
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert "1092 runs" in done.stdout, done.stdout + done.stderr
    assert str(tmp_path / "site") in done.stdout, "the checkout was not used"
