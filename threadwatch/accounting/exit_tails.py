"""Assigns CPU time that threads use after their ends were published, when it comes to light.

A thread runs on for a moment then: the rest of the interpreter's work, and the kernel's.
"""

from __future__ import annotations

from collections import Counter

from threadwatch.model.keys import SeriesKey
from threadwatch.model.readings import EndedThread

TAIL_NS = 100_000
"""CPU time that a thread may use after its end was published. Measured: 8 to 30 µs."""
_TAIL_BY_START = 4
"""The same by what it used until it could be published, which grows with it where a machine is slow.
Measured: 0.5 to 1.2, on an idle machine, a crowded one, and one ten times as slow."""


class ExitTails:
    """The claims of one process's ended threads to CPU time that no thread has been charged with."""

    def __init__(self) -> None:
        self._new: Counter[SeriesKey] = Counter()
        """What threads that have ended in this sample may have used afterwards."""
        self._older: Counter[SeriesKey] = Counter()
        """What those that ended before may have used since."""
        self.told: Counter[SeriesKey] = Counter()
        """What was told before this sample, and was in no clock yet."""
        self._told_now: Counter[SeriesKey] = Counter()
        """What was told in this sample and is in no clock yet."""

    def add(self, key: SeriesKey, end: EndedThread | None) -> None:
        """Note that a thread has ended under this name; ``end`` is what was published of that."""
        start_ns = end.start_ns if end is not None else 0
        self._new[key] += max(TAIL_NS, _TAIL_BY_START * start_ns)

    def tell(self, key: SeriesKey, cpu_ns: int) -> None:
        """Note CPU time that an ended thread has told of and the clock had no room for."""
        self._told_now[key] += cpu_ns

    def pay(self, paid: Counter[SeriesKey]) -> None:
        """Note what has been charged of :attr:`told`."""
        self.told -= paid

    def claims(self) -> Counter[SeriesKey]:
        """Return what recently ended threads may have used beyond their last sums, by series."""
        return self._older + self._new

    def carry(self, unread_ns: int, open_ns: int) -> None:
        """Carry over what ended threads may still have used, for the next reading.

        ``open_ns``: how much of the clock has been charged to no thread; ``unread_ns``: how much of
        that is for threads that have not been read.
        """
        if self._older or self._new:
            # The clock was read before these ends, so their tails may come to light in the next
            # reading. Older tails have come to light, except those that unread threads can hide.
            self._older = shares(self._older, unread_ns) + self._new
            self._new.clear()
        if self._told_now or self.told:
            self.told = shares(self.told, open_ns) + self._told_now
            self._told_now.clear()


def shares(claims: Counter[SeriesKey], cpu_ns: int) -> Counter[SeriesKey]:
    """Return shares of ``cpu_ns`` in proportion to claims; no share is larger than its claim."""
    total_ns = claims.total()
    if cpu_ns >= total_ns:
        return claims
    shares: Counter[SeriesKey] = Counter()
    for key, claim_ns in claims.items():
        share_ns = cpu_ns * claim_ns // total_ns
        cpu_ns, total_ns = cpu_ns - share_ns, total_ns - claim_ns  # so that they add up
        shares[key] = share_ns
    return shares
