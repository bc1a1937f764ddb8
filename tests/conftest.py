"""What several test folders share."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def mmbench(tmp_path):
    """Runs the command line in an empty folder, in a process of its own."""

    def command(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mmbench", *arguments],
            cwd=options.pop("cwd", tmp_path),
            capture_output=True,
            text=True,
            timeout=300,
            **options,
        )

    return command


@pytest.fixture
def mmbench_here(tmp_path, tmp_path_factory):
    """As `mmbench`, in a fork of this process, which need not load for seconds what is loaded; not for sweeps."""
    from hydra.core.global_hydra import GlobalHydra

    from mmbench import config, run  # noqa: F401
    from mmbench.cli import main as command_line

    said = [tmp_path_factory.mktemp("said") / name for name in ("stdout", "stderr")]

    def child(arguments: tuple[str, ...]) -> int:
        os.chdir(tmp_path)
        GlobalHydra.instance().clear()
        for number, path in enumerate(said, 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        with open(1, "w") as sys.stdout, open(2, "w") as sys.stderr:
            try:
                command_line.main(list(arguments))
            except SystemExit as end:
                return end.code or 0
            except BaseException:
                traceback.print_exc()
                return 1
        return 0

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        pid = os.fork()
        if not pid:
            os._exit(child(arguments))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return subprocess.CompletedProcess(arguments, status, *(path.read_text() for path in said))

    return command


@pytest.fixture
def in_fresh_python():
    """Runs code in a fresh interpreter and returns what it prints."""

    def run(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
