"""Learns how long events wait for a loop whose memory does not say when its iteration has begun. Pure.

An event that arrives while an iteration runs waits for its end. Looks come at random moments, so the time
from each to the end is distributed as what events wait, just as the ages of iterations are. A loop that
counts its iterations shows the end: the number is another. It is read again 1 ms after the look, 5 ms, and so
on, by the bounds of the histogram, until it is. The end lies between two reads, each moment as likely as
another.

After a second in one iteration, its looks are told by its age: as little of that as may be unknown, it no
longer matters, and a loop that does not come back at all is told of while it does not.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from threadwatch.model.loops import LAG_BUCKETS, LoopWait

_LONG_NS = 1_000_000_000
_AFTER_NS = tuple(round(bound * 1e9) for bound in LAG_BUCKETS if bound * 1e9 <= _LONG_NS)
"""When the number is read again, from the look on."""


class _Open(NamedTuple):
    """A look in the iteration that runs."""

    looked_ns: int
    holder: str | None
    age_ns: int
    stands_for_ns: int


class Ends:
    """The ends of the iterations of one loop."""

    __slots__ = ("_is_long", "_looks", "_number", "_same_ns", "_waits", "due_ns")

    def __init__(self) -> None:
        self._number: int | None = None
        """The number of the iteration that was read last."""
        self._same_ns = 0
        """When that was."""
        self._is_long = False
        self._looks: list[_Open] = []
        self._waits: list[LoopWait] = []
        self.due_ns: int | None = None
        """When to read the number again; None: no look waits for it."""

    def look(
        self, number: int, now_ns: int, holder: str | None, age_ns: int, stands_for_ns: int
    ) -> None:
        """Note a look in the iteration of that number. The others are as in :class:`.LoopLook`."""
        self.see(number, now_ns)
        if self._is_long:
            self._waits.append(LoopWait(holder, age_ns, stands_for_ns))
            return
        self._looks.append(_Open(now_ns, holder, age_ns, stands_for_ns))
        self._plan()

    def see(self, number: int | None, now_ns: int) -> None:
        """Note the number of the iteration; None: no loop runs."""
        if number != self._number:
            if self._looks:
                last_ns = self._read_ns(now_ns)
                end_ns = round(random.uniform(self._same_ns, last_ns))  # noqa: S311  # no secret
                for look in self._looks:
                    self._tell(look, max(end_ns - look.looked_ns, 0))
            self._looks.clear()
            self._number, self._is_long = number, False
        elif self._looks and now_ns - self._looks[0].looked_ns >= _LONG_NS:
            for look in self._looks:
                self._tell(look, look.age_ns)
            self._looks.clear()
            self._is_long = True
        self._same_ns = now_ns
        self._plan()

    def _read_ns(self, now_ns: int) -> int:
        """Return until when the end is looked for that a read has shown: the time at which the read was due.

        What is a little late would turn waits below a bound into such above it; the few that end in that
        little time count as below. Of a read that is later, the end can be anywhere before it.
        """
        due_ns = self.due_ns
        if due_ns is None or not due_ns <= now_ns < 2 * due_ns - self._same_ns:
            return now_ns
        return due_ns

    def _tell(self, look: _Open, lag_ns: int) -> None:
        self._waits.append(LoopWait(look.holder, lag_ns, look.stands_for_ns))

    def _plan(self) -> None:
        """Say when the number is to be read next."""
        self.due_ns = min(
            (
                look.looked_ns + after_ns
                for look in self._looks
                for after_ns in _AFTER_NS
                if look.looked_ns + after_ns > self._same_ns
            ),
            default=None,
        )

    def take(self) -> tuple[LoopWait, ...]:
        """Return what has been learnt since the last call."""
        waits, self._waits = tuple(self._waits), []
        return waits
