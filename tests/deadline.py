"""Ends tests that hang: their programs are ended, so that what waits for those fails, and says where.

A deadline stops a hang, and claims nothing about speed: it is far beyond what a test takes on a busy
machine. No exception is raised by a signal in the middle of a test, because it can meet any line, one of
pytest's own too. What still hangs after its programs have been ended, ends the whole run.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import threading
import time
from collections.abc import Generator

import pytest

from tests.testbed import descendants

SECONDS = 600.0
"""What a test with its fixtures may take."""
_TO_END = 60.0
"""What it may take from then on, without its programs."""
_AGAIN = 0.5
"""How often programs are ended that it starts even then."""


class Deadline:
    """A plugin of pytest: one thread watches over the test that runs."""

    def __init__(self, seconds: float = SECONDS, to_end: float = _TO_END) -> None:
        self._seconds = seconds
        self._to_end = to_end
        self._ends: float | None = None
        """When the present test is to have ended (CLOCK_MONOTONIC); None: none runs."""
        self._passed = False
        """The present test has not ended by its deadline."""
        self._changed = threading.Condition()
        self._stderr = os.dup(2)
        """Where output goes when none is captured: what is captured is lost with the run."""

    def pytest_sessionstart(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._watch, name="deadline", daemon=True).start()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """Watch over a test with its fixtures."""
        self._set(time.monotonic() + self._seconds)
        try:
            return (yield)
        finally:
            self._set(None)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self) -> Generator[None, object, object]:
        """Fail a test whose fixtures hung."""
        return (yield from self._fail_late())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """Fail a test that hung."""
        return (yield from self._fail_late())

    def _fail_late(self) -> Generator[None, object, object]:
        late = f"it took longer than {self._seconds:.0f} s, and its programs were ended"
        try:
            result = yield
        except BaseException as error:  # Ctrl-C too: the note says what the deadline has done
            if self._passed:
                error.add_note(late)
            raise
        if self._passed:
            pytest.fail(late)
        return result

    def _set(self, ends: float | None) -> None:
        with self._changed:
            self._ends, self._passed = ends, False
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while True:
                ends = self._ends
                if ends is None:
                    self._changed.wait()
                elif (left := ends - time.monotonic()) > 0:
                    if self._passed:
                        _end_all()
                        left = min(left, _AGAIN)
                    self._changed.wait(left)
                elif not self._passed:
                    self._passed = True
                    self._ends = time.monotonic() + self._to_end
                    faulthandler.dump_traceback(file=2)  # captured, it is part of the test's report
                else:
                    faulthandler.dump_traceback(file=self._stderr)
                    os._exit(1)


def _end_all() -> None:
    """End the test's programs; say once more where it is, if it has some."""
    pids = list(descendants(os.getpid()))
    if pids:
        faulthandler.dump_traceback(file=2)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
