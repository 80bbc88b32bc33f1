"""Keeps which processes have made a reading thread wait, and until when each is left alone.

A process that a thread has come back from within a second is read again at once: the machine was busy.
Any other is left alone for 2 s, 4 s … 10 min.
"""

from __future__ import annotations

from threadwatch.procfs.marks import Lock
from threadwatch.reading.worker import Worker

_STUCK_NS = 1_000_000_000
"""A thread that has not come back within this time is not merely late."""
_FIRST_PAUSE_NS = 2_000_000_000
_LONGEST_PAUSE_NS = 600_000_000_000


class HangRecord:
    """The hangs of a process: whether a thread is stuck on it, and until when it is left alone."""

    __slots__ = ("_not_before_ns", "_pause_ns", "_since_ns", "_worker")

    def __init__(self) -> None:
        self._since_ns = 0
        self._worker: Worker | None = None
        self._pause_ns = 0
        self._not_before_ns = 0

    def note(self, worker: Worker, now_ns: int) -> None:
        """Note that it has made this reading thread wait."""
        behaved = now_ns - self._not_before_ns > _LONGEST_PAUSE_NS
        longer = _FIRST_PAUSE_NS if behaved else 2 * self._pause_ns
        self._pause_ns = min(max(longer, _FIRST_PAUSE_NS), _LONGEST_PAUSE_NS)
        self._not_before_ns = now_ns + self._pause_ns
        self._since_ns = now_ns
        self._worker = worker

    def allows(self, now_ns: int) -> bool:
        """Return whether the process may be read again."""
        if self._worker is not None:
            if self._worker.is_alive():
                return False
            if self._worker.late_ns < _STUCK_NS:
                self._pause_ns = self._not_before_ns = 0
            elif now_ns < self._not_before_ns:
                return False
            self._worker = None
        return True

    def is_stuck(self, now_ns: int) -> bool:
        """Return whether a thread has waited for the process for so long that it is not merely late."""
        worker = self._worker
        return worker is not None and worker.is_alive() and now_ns - self._since_ns > _STUCK_NS


class HangRecords:
    """The hangs of a process, by the lock that the reads waited for."""

    __slots__ = ("exec", "memory")

    def __init__(self) -> None:
        self.exec = HangRecord()
        self.memory = HangRecord()

    def of(self, lock: Lock) -> HangRecord:
        """Return the record of one of the locks."""
        return self.exec if lock == "exec" else self.memory
