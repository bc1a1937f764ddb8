"""Commands in a fork of the test process, which need not load for seconds what is loaded already."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from multiprocessing import forkserver

from hydra.core.global_hydra import GlobalHydra

from mmbench import config, run  # noqa: F401
from mmbench.store.processes import end_with, this_process


class Forked:
    """`command()` under way, in a folder; what it prints goes to two files in the folder `said`.

    If the test process has a server of workers (`worker_server`), its sweeps use that.
    """

    def __init__(self, command, folder, said):
        self._said, self._status = [said / name for name in ("stdout", "stderr")], None
        for path in self._said:
            path.write_text("")
        parent = this_process()
        self.pid = os.fork()
        if not self.pid:
            os._exit(self._execute(command, folder, parent))

    def _execute(self, command, folder, parent):
        end_with(parent)
        os.chdir(folder)
        GlobalHydra.instance().clear()
        if forkserver._forkserver._forkserver_pid is not None:
            forkserver._forkserver.ensure_running = forkserver.ensure_running = lambda: None  # it is not our child
        for number, path in enumerate(self._said, 1):
            os.dup2(os.open(path, os.O_WRONLY), number)
        with open(1, "w") as sys.stdout, open(2, "w") as sys.stderr:
            try:
                command()
            except SystemExit as end:
                return end.code or 0
            except BaseException:
                traceback.print_exc()
                return 1
        return 0

    def said(self):
        """What it has printed so far, on stdout and stderr."""
        return [path.read_text() for path in self._said]

    def poll(self):
        """The exit status, or None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def wait(self):
        """As `subprocess.run` returns it."""
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return subprocess.CompletedProcess([], self._status, *self.said())
