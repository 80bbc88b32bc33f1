"""Learns how old the iteration of a loop is at least, where iterations are counted, but not timed.

The library reads the time when its thread has come back from waiting for events. It reads it again whenever a
timer is started. So it is no earlier than the iteration's beginning, once something runs in the iteration;
until then it can still be the time before the wait. And an iteration has begun neither later than it was
seen at work, nor earlier than another was.

As soon as the thread goes to wait for events, the number is that of the next iteration. What is seen then,
while nothing is known to run, is not yet in the iteration.
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
    sure: bool = False
    """Something has been seen to run in it."""
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
            self.forget()
            return 0
        runs, known = sample.holder not in (LOOP, UNKNOWN), self.iteration == sample.iteration
        began_ns = now_ns
        if known and self.sure:
            began_ns = min(self.began_ns, read_ns) if lasted else self.began_ns
        elif known and lasted:
            began_ns = max(self.began_ns, read_ns)
        elif runs and lasted:
            began_ns = max(read_ns, looked_ns)
        if lasted and not sample.woken:
            self.sure = runs or (known and self.sure)
            self.iteration, self.began_ns = sample.iteration, began_ns
        return max(now_ns - began_ns, 0)
