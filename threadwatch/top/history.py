"""Keeps where the time of each thread went, poll by poll, in the last polls."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType

from threadwatch.model.keys import ThreadKey
from threadwatch.model.view import ThreadView, View

KEPT = 300
"""The number of polls that are remembered: 5 minutes at one poll a second."""
WINDOW = 10.0
"""Seconds that a bar in the list stands for."""

Shares = Mapping[str, float]
"""Shares of a time by state; together 1, or less where part of the time is unknown."""

NOTHING: Shares = MappingProxyType({})


def shares_of(thread: ThreadView) -> Shares:
    """Return the shares of the thread's time between the last two polls; empty at its first poll."""
    return NOTHING if thread.states is None else thread.states


class History:
    """Each thread's views since it was first seen, at most :data:`KEPT`."""

    def __init__(self) -> None:
        self._last_ns: int | None = None
        self._elapsed_ns: deque[int] = deque(maxlen=KEPT - 1)
        """The time from each poll to the next, the newest first."""
        self._polls_in: dict[float, int] = {}
        """How many of the last polls began within a number of seconds; computed once for all threads."""
        self._threads: dict[ThreadKey, deque[ThreadView]] = {}
        self._shares: dict[tuple[ThreadKey, float], Shares] = {}
        """What :meth:`shares` has worked out since the last poll: lines of several kinds ask."""

    def add(self, view: View) -> None:
        """Remember one more poll. Threads that it does not have are forgotten."""
        if self._last_ns is not None:
            self._elapsed_ns.appendleft(max(view.monotonic_ns - self._last_ns, 1))
        self._last_ns = view.monotonic_ns
        self._polls_in.clear()
        self._shares.clear()
        before = self._threads
        self._threads = now = {}
        for process in view.processes:
            key = process.key
            for thread in process.threads:
                identity = (key, thread.tid, thread.start_ticks)
                line = before.get(identity)
                if line is None:
                    line = deque(maxlen=KEPT)
                line.append(thread)
                now[identity] = line

    def shares(self, key: ThreadKey, seconds: float = WINDOW) -> Shares:
        """Return the shares of the thread's time in the last ``seconds``, as far as it is known."""
        found = self._shares.get((key, seconds))
        if found is None:
            found = self._shares[key, seconds] = self._mean(key, seconds)
        return found

    def _mean(self, key: ThreadKey, seconds: float) -> Shares:
        line = self._threads.get(key)
        if line is None:
            return NOTHING
        polls = self._polls(seconds)
        last = line[-1]
        if polls <= 1 or len(line) == 1 or line[-min(polls, len(line))] is last:
            # The same view is stored again as long as nothing changes
            return shares_of(last)
        total_ns = 0
        parts: defaultdict[str, float] = defaultdict(float)
        for thread, elapsed_ns in zip(
            reversed(line), islice(self._elapsed_ns, polls), strict=False
        ):
            shares = shares_of(thread)
            if shares:
                total_ns += elapsed_ns
                for state, part in shares.items():
                    parts[state] += part * elapsed_ns
        return {state: part / total_ns for state, part in parts.items()} if total_ns else NOTHING

    def together(self, keys: Iterable[ThreadKey], seconds: float = WINDOW) -> Shares:
        """Return the shares of the time of several threads."""
        parts: defaultdict[str, float] = defaultdict(float)
        number = 0
        for key in keys:
            shares = self.shares(key, seconds)
            if shares:
                number += 1
                for state, part in shares.items():
                    parts[state] += part
        return {state: part / number for state, part in parts.items()} if number else NOTHING

    def line(self, key: ThreadKey) -> Sequence[tuple[float, Shares]]:
        """Return, poll by poll, the oldest first, its length in seconds and the shares of its time."""
        line = self._threads.get(key, ())
        elapsed = list(islice(self._elapsed_ns, len(line)))
        return [
            (elapsed_ns / 1e9, shares_of(thread))
            for elapsed_ns, thread in zip(
                elapsed[::-1], list(line)[-len(elapsed) :] if elapsed else (), strict=True
            )
        ]

    def _polls(self, seconds: float) -> int:
        """Return how many of the last polls began within ``seconds``."""
        number = self._polls_in.get(seconds)
        if number is None:
            total = number = 0
            for elapsed_ns in self._elapsed_ns:
                total += elapsed_ns
                if total > seconds * 1.05e9:
                    break
                number += 1
            self._polls_in[seconds] = number
        return number
