"""Learns how old the iteration of a loop is at least, where iterations are counted, but not timed.

The library reads the time when its thread has come back from waiting for events. It reads it again whenever a
timer is started. So it is no earlier than the iteration's beginning, once something runs in the iteration;
until then it can still be the time before the wait. And an iteration has begun neither later than it was
seen, nor earlier than another was.
"""

from __future__ import annotations

from dataclasses import dataclass

from threadwatch.model.loops import LOOP, UNKNOWN, LoopSample


@dataclass(slots=True)
class Beginning:
    """The iteration of one loop, as looks have seen it."""

    iteration: int | None = None
    """That of the last look that found something at work."""
    began_ns: int = 0
    """When that iteration began, at the latest."""
    looked_ns: int = 0
    """When the loop was looked at last."""

    def forget(self) -> None:
        """Note that the loop does not run, or is another."""
        self.iteration = None

    def skip(self, now_ns: int) -> None:
        """Note a look that need not read the loop: it still waits for events."""
        self.looked_ns = now_ns

    def age_ns(self, sample: LoopSample, read_ns: int, now_ns: int, *, lasted: bool) -> int | None:
        """Return how old the iteration of a sample is at least; None: the loop does not count iterations.

        ``read_ns``: the time as the library has read it last; it is taken after the sample. ``lasted``: the
        iteration was the same before and after both. All times are of CLOCK_MONOTONIC.
        """
        looked_ns, self.looked_ns = self.looked_ns, now_ns
        if sample.iteration is None:
            return None
        if sample.holder is None:
            return 0
        if self.iteration == sample.iteration:
            began_ns = min(self.began_ns, read_ns) if lasted else self.began_ns
        elif lasted and sample.holder not in (LOOP, UNKNOWN):
            began_ns = max(read_ns, looked_ns)
        else:
            began_ns = now_ns
        if lasted and not sample.woken:
            self.iteration, self.began_ns = sample.iteration, began_ns
        return max(now_ns - began_ns, 0)
