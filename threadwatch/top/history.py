"""Keeps where the time of each thread went, poll by poll, in the last polls."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, repeat
from types import MappingProxyType

from threadwatch.model.keys import ProcessKey, ThreadKey
from threadwatch.model.view import ProcessView, ThreadView, View

KEPT = 300
"""The number of polls that are remembered: 5 minutes at one poll a second."""
WINDOW = 10.0
"""Seconds that a bar in the list stands for."""

Shares = Mapping[str, float]
"""Shares of a time by state; together 1, or less where part of the time is unknown."""

NOTHING: Shares = MappingProxyType({})

Sum = tuple[int, Shares]
"""A number of threads, and the sums of their shares."""


def shares_of(thread: ThreadView) -> Shares:
    """Return the shares of the thread's time between the last two polls; empty at its first poll."""
    return NOTHING if thread.states is None else thread.states


class _Process:
    """A process's threads, poll by poll. A poll in which nothing of it has changed is only counted."""

    __slots__ = ("again", "lines", "sums", "view")

    def __init__(self, view: ProcessView) -> None:
        self.view = view
        self.again = 0
        """How many of the last polls have brought that very view again, and are not in the lines."""
        self.lines = {
            (thread.tid, thread.start_ticks): deque((thread,), KEPT) for thread in view.threads
        }
        """Each thread's views, the newest last."""
        self.sums: dict[float, tuple[bool, Sum]] = {}
        """What its threads have in a number of seconds; and whether that stays as long as the view does."""

    def add(self, view: ProcessView) -> None:
        """Remember one more poll."""
        if view is self.view:
            self.again += 1
            if self.sums:
                self.sums = {of: known for of, known in self.sums.items() if known[0]}
            return
        self.catch_up()
        self.view = view
        self.sums.clear()
        before = self.lines
        self.lines = now = {}
        for thread in view.threads:
            identity = (thread.tid, thread.start_ticks)
            line = before.get(identity)
            if line is None:
                line = deque(maxlen=KEPT)
            line.append(thread)
            now[identity] = line

    def catch_up(self) -> None:
        """Write the polls that were only counted into the lines."""
        if self.again:
            for line in self.lines.values():
                line.extend(repeat(line[-1], min(self.again, KEPT)))
            self.again = 0


class History:
    """Each thread's views since it was first seen, at most :data:`KEPT`."""

    def __init__(self) -> None:
        self._last_ns: int | None = None
        self._elapsed_ns: deque[int] = deque(maxlen=KEPT - 1)
        """The time from each poll to the next, the newest first."""
        self._polls_in: dict[float, int] = {}
        """How many of the last polls began within a number of seconds; computed once for all threads."""
        self._processes: dict[ProcessKey, _Process] = {}
        self._shares: dict[tuple[ThreadKey, float], Shares] = {}
        """What :meth:`shares` has worked out since the last poll: lines of several kinds ask."""

    def add(self, view: View) -> None:
        """Remember one more poll. Threads that it does not have are forgotten."""
        if self._last_ns is not None:
            self._elapsed_ns.appendleft(max(view.monotonic_ns - self._last_ns, 1))
        self._last_ns = view.monotonic_ns
        self._polls_in.clear()
        self._shares.clear()
        before = self._processes
        self._processes = now = {}
        for process in view.processes:
            known = before.get(process.key)
            if known is None:
                known = _Process(process)
            else:
                known.add(process)
            now[process.key] = known

    def shares(self, key: ThreadKey, seconds: float = WINDOW) -> Shares:
        """Return the shares of the thread's time in the last ``seconds``, as far as it is known."""
        found = self._shares.get((key, seconds))
        if found is None:
            found = self._shares[key, seconds] = self._mean(key, seconds)
        return found

    def _mean(self, key: ThreadKey, seconds: float) -> Shares:
        process, *identity = key
        known = self._processes.get(process)
        line = None if known is None else known.lines.get((identity[0], identity[1]))
        if known is None or line is None:
            return NOTHING
        polls = self._polls(seconds)
        last = line[-1]
        if polls <= known.again + 1 or len(line) == 1:
            return shares_of(last)
        known.catch_up()
        if line[-min(polls, len(line))] is last:
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

    def together(
        self,
        keys: Iterable[ThreadKey],
        whole: Iterable[ProcessKey] = (),
        seconds: float = WINDOW,
    ) -> Shares:
        """Return the shares of the time of several threads, and of all threads of ``whole`` processes."""
        parts: defaultdict[str, float] = defaultdict(float)
        number = 0
        for key in keys:
            shares = self.shares(key, seconds)
            if shares:
                number += 1
                for state, part in shares.items():
                    parts[state] += part
        for process in whole:
            threads, sums = self._sum(process, seconds)
            number += threads
            for state, part in sums.items():
                parts[state] += part
        return {state: part / number for state, part in parts.items()} if number else NOTHING

    def _sum(self, key: ProcessKey, seconds: float) -> Sum:
        """Return how many threads of a process have shares, and the sums of these."""
        known = self._processes.get(key)
        if known is None:
            return 0, NOTHING
        if seconds not in known.sums:
            parts: defaultdict[str, float] = defaultdict(float)
            number = 0
            for identity in known.lines:
                shares = self.shares((key, *identity), seconds)
                number += bool(shares)
                for state, part in shares.items():
                    parts[state] += part
            stays = known.again + 1 >= self._polls(seconds)
            known.sums[seconds] = stays, (number, parts)
        return known.sums[seconds][1]

    def line(self, key: ThreadKey) -> Sequence[tuple[float, Shares]]:
        """Return, poll by poll, the oldest first, its length in seconds and the shares of its time."""
        process, *identity = key
        known = self._processes.get(process)
        if known is None:
            return []
        known.catch_up()
        line = known.lines.get((identity[0], identity[1]), ())
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
