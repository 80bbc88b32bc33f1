"""Every system call of the reader fails, with every errno that want of something brings: nothing else does.

These faults cannot be caused one by one from outside, so they are raised in place of the calls themselves.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests import testbed
from tests.books import threads_ns
from tests.integration.conftest import Fleet
from threadwatch.config.parse import parse_config
from threadwatch.errors import ReadError
from threadwatch.model.view import View
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS

CALLS: dict[str, tuple[Any, str]] = {
    "open": (os, "open"),
    "read": (os, "read"),
    "pread": (os, "pread"),
    "readlink": (os, "readlink"),
    "listdir": (os, "listdir"),
    "scandir": (os, "scandir"),
    "stat": (os, "stat"),
    "fstat": (os, "fstat"),
    "clock_gettime_ns": (time, "clock_gettime_ns"),
}
ERRORS = (errno.EMFILE, errno.ENOMEM, errno.EIO)


class Faults:
    """Makes a call fail, each time or once in a number of times, in this thread and in the reading thread."""

    def __init__(self, module: Any, name: str) -> None:
        self._module, self._name = module, name
        self._real: Callable[..., Any] = getattr(module, name)
        self._count = 0
        self.raised = 0

    @contextmanager
    def every(self, nth: int, number: int) -> Iterator[None]:
        """Meanwhile each ``nth`` call fails with this errno."""

        def faulty(*args: Any, **kwargs: Any) -> Any:
            own_clock = self._name == "clock_gettime_ns" and args[0] >= 0  # cannot fail
            if threading.current_thread().name in {"MainThread", "reader"} and not own_clock:
                self._count += 1
                if self._count % nth == 0:
                    self.raised += 1
                    raise OSError(number, os.strerror(number))
            return self._real(*args, **kwargs)

        setattr(self._module, self._name, faulty)
        try:
            yield
        finally:
            setattr(self._module, self._name, self._real)


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_fails(call: str, fleet: Fleet) -> None:
    """Each poll and sample ends, errors are counted, no file stays open, and then all is right again."""
    target = fleet.start(testbed.require(3, 12), "many.py", "40", "10")
    step = target.next_step()
    assert step is not None
    (process,) = step.processes
    errors: list[ReadError] = []
    config = {
        "poll_interval": "100ms",
        "waits": {"rate": 100},
        "collect": ["context_switches", "io"],
    }
    poller = Poller(
        ProcFS(), parse_config(json.dumps(config).encode(), "test"), report=errors.append
    )
    poller.always_watch(frozenset({process.pid}))
    try:
        look(poller)
        files = len(os.listdir("/proc/self/fd"))
        faults = Faults(*CALLS[call])
        for number in ERRORS:
            for nth in (1, 2, 7):
                with faults.every(nth, number):
                    look(poller)
        with faults.every(1, errno.EIO):  # once in 32 polls, all processes are listed
            for _ in range(40):
                if not faults.raised:
                    look(poller)
        assert faults.raised, "the call is not made at all"
        before = len(errors)
        view, names = look(poller), set[str]()
        for _ in range(40):  # processes that were given up are looked at again
            view = look(poller)
            names = {t.name for p in view.processes if p.key.pid == process.pid for t in p.threads}
            if {"MainThread", "stays", "Thread-1 (attend)"} <= names and len(names) > 40:
                break
        assert len(names) > 40, names
        assert len(errors) - before < 20, errors[before:]
        for group in view.groups:
            assert 0 <= group.cpu_ns - threads_ns(group) <= 110_000_000 * max(group.processes, 1)
        assert abs(len(os.listdir("/proc/self/fd")) - files) <= 60
    finally:
        poller.close()


def look(poller: Poller) -> View:
    """Poll, and sample a few times."""
    view = poller.poll()
    poller.sample_for(0.05)
    return view
