"""A clock for what must not be waited for: it leaves out the time for which there was no CPU."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from tests.harness import stolen_s


class Stopwatch:
    """Measures what this process takes from now on, were it never without a CPU.

    Left out is the time for which its threads were ready to run and did not (schedstat), or the virtual CPU
    itself did not run (proc_stat(5), steal). So a wait for something else is seen, however busy the machine.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._waits_ns = _waits_ns()
        self._stolen_s = stolen_s()

    def seconds(self) -> float:
        """Return how long it has been. What threads were without that have ended meanwhile is not known."""
        without = sum(ns - self._waits_ns.get(tid, 0) for tid, ns in _waits_ns().items()) / 1e9
        stolen = stolen_s() - self._stolen_s
        return time.monotonic() - self._began - without - stolen


def _waits_ns() -> dict[str, int]:
    """Return for how many ns each thread has waited for a CPU in its life."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            found[task.name] = int((task / "schedstat").read_text().split()[1])
    return found
