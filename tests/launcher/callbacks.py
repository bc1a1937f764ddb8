"""A callback of Hydra that writes down when it is called."""

from __future__ import annotations

from pathlib import Path

from hydra.experimental.callback import Callback


class Diary(Callback):
    def __init__(self, file):
        self.file = Path(file)

    def write(self, *words):
        with self.file.open("a") as file:
            file.write(" ".join(map(str, words)) + "\n")

    def on_multirun_start(self, config, **kwargs):
        self.write("multirun")

    def on_job_start(self, config, **kwargs):
        self.write("start", config.seed, config.hydra.job.num)

    def on_job_end(self, config, job_return, **kwargs):
        self.write("end", job_return.cfg.seed, job_return.status.name)
