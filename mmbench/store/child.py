"""A process that does one task after the other.

It is reached through one pipe. So it needs no semaphore, hence no /dev/shm, and its death is seen whatever it was
doing. It says when it begins a task: a process that dies before that has not done any of it.
"""

from __future__ import annotations

import contextlib
import pickle
import time
from collections.abc import Callable
from typing import Any

import psutil

from mmbench.store.processes import is_alive, started

BEGUN = "begun"
PATIENCE = 10.0
"""Seconds that a process has to end by itself."""


class DeadError(Exception):
    """The process has died. `code` is its exit code, negative for a signal; `begun` is whether it was at a task."""

    def __init__(self, code: int, begun: bool) -> None:
        super().__init__(f"exit code {code}")
        self.code, self.begun = code, begun


class Child:
    """The process, as its parent sees it.

    Args:
        context: of `multiprocessing`.
        begin: a function of a module, called first in the process.
        arguments: of `begin`.

    Raises:
        OSError: no process can be started.
        EOFError: the same, from a server that forks them.
    """

    def __init__(self, context: Any, begin: Callable[..., Any], *arguments: Any) -> None:
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, begin, arguments))
        try:
            self._process.start()
        except BaseException:
            self.pipe.close()
            raise
        finally:
            theirs.close()
        self.pid: int = self._process.pid
        self._start, self._begun = started(self.pid), False

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Give it a task; `answer` tells what became of it, also if the process is dead already."""
        self._begun = False
        with contextlib.suppress(OSError):
            self.pipe.send_bytes(pickle.dumps((function, arguments)))

    def ready(self) -> bool:
        """Whether `answer` would not wait."""
        return self._polled() or started(self.pid) != self._start

    def _polled(self, timeout: float | None = 0.0) -> bool:
        try:
            return bool(self.pipe.poll(timeout))
        except OSError:
            return True  # reading tells why

    def answer(self, timeout: float | None = None) -> tuple[bool, Any]:
        """What the process says next about its task.

        Args:
            timeout: seconds to wait.

        Returns:
            True and `BEGUN` when the task begins; then True and its result, or False and its error.

        Raises:
            DeadError: the process has died.
            TimeoutError: there is no answer yet.
        """
        if not self._polled(timeout):
            if started(self.pid) == self._start:
                raise TimeoutError
            self.pipe.close()  # a process of its own may hold the other end
        try:
            succeeded, value = self.pipe.recv()
        except (EOFError, OSError):
            self._process.join(PATIENCE)
            raise DeadError(self._process.exitcode or 0, self._begun) from None
        except Exception as error:  # a result that does not come out of its pickle
            return False, error
        self._begun |= succeeded and isinstance(value, str) and value == BEGUN
        return succeeded, value

    def kill(self) -> None:
        """End it now. `multiprocessing` would not, once the server that forked it is dead."""
        if is_alive(self.pid, self._start) is not False:
            with contextlib.suppress(psutil.Error):
                psutil.Process(self.pid).kill()

    def close(self) -> None:
        """Let it end, and wait for that."""
        self.pipe.close()
        self._process.join(PATIENCE)
        self.kill()
        deadline = time.monotonic() + PATIENCE
        while started(self.pid) == self._start is not None and time.monotonic() < deadline:
            time.sleep(0.01)


# -- in the process --------------------------------------------------------------------------------------------------


def _serve(pipe: Any, begin: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    begin(*arguments)
    while True:
        try:
            task = pipe.recv_bytes()
            pipe.send((True, BEGUN))
            pipe.send_bytes(_done(task))
        except (EOFError, OSError):  # the parent has closed the pipe, or is dead
            return


def _done(task: bytes) -> bytes:
    """Do a task; returns the answer, pickled."""
    try:
        function, arguments = pickle.loads(task)  # noqa: S301  (from the parent)
        return pickle.dumps((True, function(*arguments)))
    except BaseException as error:
        try:
            answer = pickle.dumps((False, error))
            pickle.loads(answer)  # noqa: S301  (an error with arguments of its own may not come out again)
        except Exception:
            answer = pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
        return answer
