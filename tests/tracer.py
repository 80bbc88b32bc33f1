"""A tracer, as debuggers and strace are: seizes all threads of a process, stops and continues them.

:class:`Tracer` starts it as a program of its own (``python -m tests.tracer PID``) and tells it what to do.
Threads that the process starts meanwhile are traced as well. What the tracer asks of the kernel is in
ptrace(2).
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.testbed import CHECKOUT

# <linux/ptrace.h>
_CONT, _SEIZE, _INTERRUPT, _LISTEN = 7, 0x4206, 0x4207, 0x4208
_TRACE_CLONE, _TRACE_EXEC = 0x8, 0x10
_EVENT_EXEC, _EVENT_STOP = 4, 128
_WALL = 0x40000000
_STOPS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


class Tracer:
    """The other side of it, for a test."""

    def __init__(self, pid: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(pid)],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._answer()

    def stop(self) -> None:
        """Stop all threads, and return when they stand still."""
        self._ask(b"s")

    def go_on(self) -> None:
        """Let all threads go on."""
        self._ask(b"c")

    def close(self) -> None:
        """Let go of the process; its threads go on."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, command: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command)
        self._answer()

    def _answer(self) -> None:
        assert self._process.stdout is not None
        answer = self._process.stdout.read(1)
        assert answer == b".", f"the tracer says {answer!r}"


@contextmanager
def traced(pid: int) -> Iterator[Tracer]:
    """Run a tracer of the process meanwhile."""
    tracer = Tracer(pid)
    try:
        yield tracer
    finally:
        tracer.close()


def _ptrace(request: int, tid: int, data: int = 0) -> None:
    """Raises ProcessLookupError if the thread has gone, or is not stopped where it must be."""
    if _libc.ptrace(request, tid, None, data) == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


class _Seized:
    """The threads of one process, as their tracer knows them."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.threads: set[int] = set()
        self.stopped: set[int] = set()
        self.hold = False
        while new := self._tids() - self.threads:  # until none has been started while we looked
            for tid in new:
                self.threads.add(tid)
                # one that a traced thread has started is traced already
                with suppress(ProcessLookupError, PermissionError):
                    _ptrace(_SEIZE, tid, _TRACE_CLONE | _TRACE_EXEC)

    def _tids(self) -> set[int]:
        return {int(tid) for tid in os.listdir(f"/proc/{self.pid}/task")}

    def attend(self) -> None:
        """Hear what has happened to the threads, and let those go on that should."""
        while True:
            try:
                tid, status = os.waitpid(-1, _WALL | os.WNOHANG)
            except ChildProcessError:
                return
            if not tid:
                return
            if not os.WIFSTOPPED(status):
                self.threads.discard(tid)
                self.stopped.discard(tid)
                continue
            self.threads.add(tid)
            number, event = os.WSTOPSIG(status), status >> 16
            if event == _EVENT_STOP and number in _STOPS:
                self._do(_LISTEN, tid)  # stopped by a signal, not by us
            elif self.hold:
                self.stopped.add(tid)
                if not event and number != signal.SIGTRAP:
                    os.kill(tid, number)  # it comes again when the thread goes on
            else:
                self._do(_CONT, tid, 0 if event else number)

    def stop(self) -> None:
        """Stop all."""
        self.hold = True
        asked: set[int] = set()
        while self._living() - self.stopped:
            for tid in self._living() - asked:
                asked.add(tid)
                self._do(_INTERRUPT, tid)
            self.attend()
            select.select([], [], [], 0.0005)

    def _living(self) -> set[int]:
        """Return the threads that can stop: not those that have ended and wait for the others."""
        living = set()
        for tid in self._tids():
            with (
                suppress(FileNotFoundError, ProcessLookupError),
                open(f"/proc/{self.pid}/task/{tid}/stat", encoding="utf-8") as stat,
            ):
                if stat.read().rsplit(") ", 1)[1][0] not in "ZX":
                    living.add(tid)
        return living

    def go_on(self) -> None:
        """Let all go on."""
        self.hold = False
        for tid in self.stopped:
            self._do(_CONT, tid)
        self.stopped.clear()

    @staticmethod
    def _do(request: int, tid: int, data: int = 0) -> None:
        with suppress(ProcessLookupError):
            _ptrace(request, tid, data)


def main(pid: int) -> None:
    """Trace until stdin ends: ``s`` stops all, ``c`` lets them go on; each is answered by a dot."""
    seized = _Seized(pid)
    os.write(1, b".")
    while True:
        seized.attend()
        # there is no file that says when a traced thread has something to tell
        if not select.select([0], [], [], 0.001)[0]:
            continue
        command = os.read(0, 1)
        if not command:
            return
        if command == b"s":
            seized.stop()
        else:
            seized.go_on()
        os.write(1, b".")


if __name__ == "__main__":
    main(int(sys.argv[1]))
