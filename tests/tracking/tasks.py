"""Tasks for the client's process that go wrong; in a file of their own, which that process has to import."""

from __future__ import annotations

import os
import time


def dies(root, tracker, mode):
    os._exit(7)


def hangs(root, tracker, mode):
    time.sleep(1000)
