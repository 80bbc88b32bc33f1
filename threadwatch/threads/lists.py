"""Reads the kernel's list of a process's threads, and the threads that are new in it."""

from __future__ import annotations

from threadwatch.errors import Gone, ReadError
from threadwatch.targets.process import Process
from threadwatch.targets.threads import KnownThread
from threadwatch.threads.clocks import ThreadClocks

_ASK_COST = 8
"""How many threads can be listed for the price of asking for one that has ended."""


class ThreadLists:
    """Reads lists of threads. ``errors`` collects what could not be read."""

    def __init__(self, errors: list[ReadError], clocks: ThreadClocks) -> None:
        self._errors = errors
        self._clocks = clocks

    def read(self, watched: Process, ran: dict[int, KnownThread], poll: int) -> None:
        """Read the list: drop the threads that have gone, and read new ones, which are added to ``ran``."""
        tids = watched.dir.tids()
        known = watched.threads.known
        for tid in known.keys() - set(tids):
            self._clocks.forget(watched, known[tid])
        for tid in tids:
            if tid not in known:
                self._meet(watched, tid, ran, poll)

    def meet_late(
        self, watched: Process, unseen: set[int], ran: dict[int, KnownThread], poll: int
    ) -> set[int]:
        """Read threads whose end has been published, but which the kernel still shows; return their TIDs.

        The kernel shows a thread for longer if a tracer holds it, or if it is a thread of C that has only
        left Python. ``unseen`` has the TIDs as published. To ask for a few is cheaper than to list all
        threads of a large process.
        """
        met = set()
        known = watched.threads.known
        same_tids = watched.ns_pid == watched.key.pid
        few = same_tids and len(unseen) * _ASK_COST < len(known)
        for tid in unseen if few else watched.dir.tids():
            if tid not in known and self._meet(watched, tid, ran, poll):
                met.add(tid)
                watched.threads.distrust()  # part of it may have been explained already
        return met

    def _meet(self, watched: Process, tid: int, ran: dict[int, KnownThread], poll: int) -> bool:
        """Read a thread for the first time; return False if it has gone, or cannot be read."""
        try:
            ran[tid] = self._clocks.meet(watched, tid, poll)
        except Gone:
            return False
        except ReadError as error:
            self._errors.append(error)
            return False
        return True
