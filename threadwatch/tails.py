"""What threads use after their ends were published, and whose it is when it comes to light.

A thread runs on for a moment then: the rest of the interpreter's work, and the kernel's.
"""

from __future__ import annotations

from collections import Counter

from threadwatch.model import SeriesKey

TAIL_NS = 100_000
"""CPU time that a thread may use after its end was published. Measured: 15 to 30 µs."""


class Tails:
    """The claims of one process's ended threads to CPU time that nobody has been charged with."""

    def __init__(self) -> None:
        self.ended: Counter[SeriesKey] = Counter()
        """How many threads have ended in this sample."""
        self._older: Counter[SeriesKey] = Counter()
        """What those that ended before may have used since."""

    def claims(self) -> Counter[SeriesKey]:
        """What threads that have ended of late may have used beyond their last sums, by where they were."""
        return self._older + self._new()

    def carry(self, unread_ns: int) -> None:
        """See what those that have ended may have used yet, when the next sample is charged."""
        if not self._older and not self.ended:
            return
        # The clock was read before these ends, so their tails may come to light in the next sample. Older
        # ones have by now, but for what threads that have not been read can hide.
        self._older = shares(self._older, unread_ns) + self._new()
        self.ended.clear()

    def _new(self) -> Counter[SeriesKey]:
        return Counter({key: TAIL_NS * count for key, count in self.ended.items()})


def shares(claims: Counter[SeriesKey], cpu_ns: int) -> Counter[SeriesKey]:
    """Shares of ``cpu_ns`` in proportion to claims; nobody gets more than the claim."""
    total_ns = claims.total()
    if cpu_ns >= total_ns:
        return claims
    shares: Counter[SeriesKey] = Counter()
    for key, claim_ns in claims.items():
        share_ns = cpu_ns * claim_ns // total_ns
        cpu_ns, total_ns = cpu_ns - share_ns, total_ns - claim_ns  # so that they add up
        shares[key] = share_ns
    return shares
