"""Keeps the names that were told of one process's threads, until others are told or the threads have ended.

Python lets go of a thread before the kernel does, so a name outlives what it was read from. A thread of the
kernel's is a TID with a start time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from threadwatch.names.memory.entries import TRIES


@dataclass(frozen=True, slots=True)
class Told:
    """The name of a thread."""

    start_ticks: int
    """When it started (``starttime`` of proc_pid_stat(5))."""
    name: str
    cut: bool


class ToldNames:
    """The names of one process's threads, by TID in its own PID namespace."""

    def __init__(self) -> None:
        self._told: dict[int, Told] = {}
        self._changed: set[int] = set()
        self._unconfirmed: Counter[int] = Counter()
        """By TID, how often a third reading was not the same, since a name was told last."""

    def __contains__(self, tid: int) -> bool:
        """Return whether a thread with this TID has been named."""
        return tid in self._told

    def name_of(self, tid: int, start_ticks: int) -> Told | None:
        """Return the name of the thread with this TID and start time."""
        told = self._told.get(tid)
        return told if told is not None and told.start_ticks == start_ticks else None

    def take_changed(self) -> set[int]:
        """Return the TIDs of threads that were given a name since this was last asked."""
        changed, self._changed = self._changed, set()
        return changed

    def tell(self, tid: int, told: Told) -> None:
        """Name a thread, whatever it was called before."""
        if self._told.get(tid) != told:
            self._told[tid] = told
            self._changed.add(tid)

    def fail(self, tid: int) -> None:
        """Note that a third reading of this thread's name was not the same."""
        self._unconfirmed[tid] += 1

    def succeed(self, tid: int) -> None:
        """Note that one was the same."""
        self._unconfirmed.pop(tid, None)

    def can_be_read(self, tid: int) -> bool:
        """Return whether this thread's name is not one that changes all the time, as far as is known."""
        return self._unconfirmed[tid] < TRIES

    def forget(self, threads: Mapping[int, int], changed: Collection[int] | None) -> bool:
        """Forget threads that have ended; return whether one has started.

        ``threads``: the start time of each living thread by its TID. ``changed``: the TIDs of all that have
        started or ended; None: any can have.
        """
        if changed is None:
            changed = self._told.keys() | self._unconfirmed.keys() | threads.keys()
        started = False
        for tid in changed:
            told, start_ticks = self._told.get(tid), threads.get(tid)
            if told is not None and told.start_ticks != start_ticks:
                del self._told[tid]
                told = None
            if start_ticks is None:
                self._unconfirmed.pop(tid, None)
            elif told is None:
                started = True
        return started
