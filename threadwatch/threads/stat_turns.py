"""Decides which threads' stat is read in which poll.

A thread's stat (its state, page faults, user and system time) takes longer to read than its clock,
and says nothing new while the clock stands still. Each poll reads it first for threads that have
used much CPU time, or were not asleep; the others, if they are many, take turns. When a process has
come to rest, it is read for all threads that have run since their turn: so the figures at rest are
exact.
"""

from __future__ import annotations

from threadwatch.errors import ReadError
from threadwatch.model.readings import NS_PER_TICK
from threadwatch.targets.process import Process
from threadwatch.targets.threads import KnownThread
from threadwatch.threads.clocks import ThreadClocks

FEW = 32
"""A process with at most this many threads has each ns explained: reading them all costs little."""
_PER_POLL = 256
"""How often stat is read in one poll, over all processes."""
_AT_LEAST = 8
"""How often stat may be read in each process even so."""
_TURNS = 4
"""The number of polls in which each of many threads that have used little has its turn."""
_MUCH_NS = NS_PER_TICK
"""CPU time since the last read from which a thread's stat is read before others': it counts in ticks."""


class StatTurns:
    """Reads stats, as many as a poll may cost. ``errors`` collects read errors."""

    def __init__(self, errors: list[ReadError], clocks: ThreadClocks) -> None:
        self._errors = errors
        self._clocks = clocks
        self._left, self._shares_left = _PER_POLL, 1

    def begin(self, processes: int) -> None:
        """Begin a new poll, in which this many processes will be read."""
        self._left, self._shares_left = _PER_POLL, processes

    def read(
        self, watched: Process, ran: dict[int, KnownThread], *, of_all: bool
    ) -> tuple[set[int], bool]:
        """Read the stat of threads that ``ran``, or of all that have run since their last one.

        Reads at most this poll's share. Returns the TIDs that are completely up to date now, and
        whether a thread has turned out to be gone.
        """
        full = set()
        replaced = False
        much, little = [], []
        book = watched.threads
        now = book.known
        behind = {t: k for t, k in book.stat_due.items() if now.get(t) is k}
        for tid, known in (now if of_all else behind | ran).items():
            behind_ns = known.cpu_ns - known.stat_cpu_ns
            if behind_ns > _MUCH_NS or known.file is None or known.stat.state != "S":
                if behind_ns:
                    much.append(known)
                elif tid in ran:
                    full.add(tid)
            elif behind_ns:
                little.append(known)
        left = max(self._left // max(self._shares_left, 1), _AT_LEAST)
        self._shares_left -= 1
        most = max(left - len(much), 0)
        if not of_all and len(now) > FEW:
            most = min(most, -(-len(little) // _TURNS))
        # Threads left over are the first to have a turn in the next poll.
        book.stat_due = {known.tid: known for known in (*much[left:], *little[most:])}
        for known in (*much[:left], *little[:most]):
            self._left -= 1
            if now.get(known.tid) is not known:
                replaced = True
                continue
            try:
                if self._clocks.read_stat(watched, known):
                    full.add(known.tid)
                else:
                    replaced = True
            except ReadError as error:
                self._errors.append(error)
        return full, replaced
