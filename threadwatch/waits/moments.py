"""Chooses the moments of samples, so that each stands for a part of the time. Pure.

The time until the next poll is divided into equal parts, and in each there is one sample, at a moment that
is random and as likely as any other. What the sample sees counts for the whole part. So on average each state
is credited with the time that it lasts, also if it recurs in step with the clock. The number of parts can be
chosen by all that is known when they begin.
"""

from __future__ import annotations

import random


class Moments:
    """The moments of samples between two polls, at one rate."""

    __slots__ = ("_begin_ns", "_count", "_length_ns", "_number", "due_ns")

    def __init__(self, rate: int, begin_ns: int, end_ns: int) -> None:
        """``rate``: samples per second; the moments lie between the two times."""
        length_ns = max(end_ns - begin_ns, 1)
        # if parts do not fit in, there is one more now and then
        self._count = int(rate * length_ns / 1e9 + random.random())  # noqa: S311  # no secret
        self._length_ns = length_ns / max(self._count, 1)
        self._begin_ns = begin_ns
        self._number = -1
        self.due_ns: int | None = None
        """When the next sample is due; None: there is none."""
        self._next(begin_ns)

    def take(self, now_ns: int) -> int:
        """Go on to the next part; return up to when the sample that is taken now stands for the time."""
        end_ns = max(self._begin(self._number + 1), now_ns)
        self._next(now_ns)
        return end_ns

    def _begin(self, number: int) -> int:
        return self._begin_ns + round(number * self._length_ns)

    def _next(self, now_ns: int) -> None:
        """Choose the moment in the next part that has not passed."""
        passed = int((now_ns - self._begin_ns) / self._length_ns)
        number = self._number = max(self._number + 1, passed)
        if number >= self._count:
            self.due_ns = None
            return
        earliest_ns = max(self._begin(number), now_ns)
        latest_ns = self._begin(number + 1)
        self.due_ns = round(random.uniform(earliest_ns, latest_ns))  # noqa: S311  # no secret
