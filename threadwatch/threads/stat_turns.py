"""Whose stat is read in which poll.

A thread's stat (its state, page faults, user and system time) is dearer than its clock, and says
nothing new while the clock stands still. Each poll reads it for those that had one to read: who has used
much, or was not asleep, first; the others, if they are many, take turns. When a process has come to
rest, it is read for all that have run since their turn: what is shown of it at rest is exact.
"""

from __future__ import annotations

from threadwatch.errors import ReadError
from threadwatch.targets.process import Watched
from threadwatch.targets.threads import KnownThread
from threadwatch.threads.clocks import ThreadClocks

FEW = 32
"""With so few threads, every ns has its owner looked for: to read them all costs little."""
_PER_POLL = 256
"""How often stat is read in one poll, of all processes together."""
_AT_LEAST = 8
"""How often it may be read in each process all the same."""
_TURNS = 4
"""In so many polls, each of many threads that have used little has its turn."""
_MUCH_NS = 1_000_000
"""CPU time since it was last read that makes a thread's stat worth to be read before others'."""


class StatTurns:
    """Reads stats, as many as a poll may cost. ``errors`` collects what could not be read."""

    def __init__(self, errors: list[ReadError], clocks: ThreadClocks) -> None:
        self._errors = errors
        self._clocks = clocks
        self._left, self._shares_left = _PER_POLL, 1

    def begin(self, processes: int) -> None:
        """A new poll begins, in which so many processes will be read."""
        self._left, self._shares_left = _PER_POLL, processes

    def read(
        self, watched: Watched, ran: dict[int, KnownThread], *, of_all: bool
    ) -> tuple[set[int], bool]:
        """Read the stat of those that ``ran``, or of all that have since it was last read.

        Of as many as may be; gives the TIDs of those with something new, all of which is known now; and
        whether one has ended.
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
        # who is left over is the first to have a turn in the next poll
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
