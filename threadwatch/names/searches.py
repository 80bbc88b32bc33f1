"""Decides when to search a process again for tables that it may have made since the last search.

A subinterpreter makes its table at its start, which can be long after the daemon's first look at
the process. A thread that no table knows is a reason to search: a young one, because a new
interpreter most often starts threads of its own; an old one, because threads of C visit
interpreters that are made later.

But a search examines each open file, and threads of C that no table will ever know are common. So
unsuccessful searches become less and less frequent, and each must have been paid for: since the
last one, the process must have used as much CPU time as that one took.
"""

from __future__ import annotations

_LONGEST_WAIT = 32
"""The most polls between two unsuccessful searches for young threads."""
_OLD = 16
"""The factor by which to wait longer if the threads that no table knows are old."""


class Searches:
    """The searches for tables in one process."""

    __slots__ = (
        "_earliest",
        "_old",
        "_price_ns",
        "_searched",
        "_wait",
        "_young",
        "_youngest_ticks",
    )

    def __init__(self) -> None:
        self._young = self._old = False
        self._youngest_ticks = 0
        self._searched = self._earliest = 0
        self._price_ns = 0
        self._wait = 1

    def missed(self, start_ticks: int) -> None:
        """Note a thread with this start time that no table knows, and that had the time to publish itself."""
        self._old = True
        if start_ticks > self._youngest_ticks:
            self._youngest_ticks = start_ticks
            self._young = True

    def is_due(self, poll: int, used_ns: int) -> bool:
        """Return whether to search in this poll. ``used_ns``: CPU time of the process in its life."""
        if not self._old or poll < self._earliest or used_ns < self._price_ns:
            return False
        return self._young or poll >= self._searched + _OLD * self._wait

    def made(self, poll: int, used_ns: int, cost_ns: int, *, found: bool) -> None:
        """Note a search that took this much CPU time, and whether it has found a table."""
        self._young = self._old = False
        self._wait = 1 if found else min(2 * self._wait, _LONGEST_WAIT)
        self._searched, self._earliest = poll, poll + self._wait
        self._price_ns = used_ns + cost_ns
