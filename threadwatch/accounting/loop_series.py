"""Totals of the loops that the threads of one series run, by task name. Only this module writes them.

:mod:`threadwatch.accounting.loop_account` has what one living thread's loop has been charged with.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Mapping
from types import MappingProxyType

from threadwatch.model.keys import OTHER
from threadwatch.model.loops import (
    LAG_BUCKETS,
    LAG_MAX_OVER_NS,
    LOOP,
    NO_LOOP,
    UNKNOWN,
    LoopKind,
    LoopTotals,
    TaskCount,
    TaskTotals,
)

MOST_TASKS = 50
"""Task names of one thread series that have totals of their own; the rest is ``(other)``."""

_BOUNDS_NS = tuple(round(bound * 1e9) for bound in LAG_BUCKETS)
_OURS = frozenset((LOOP, NO_LOOP, UNKNOWN, OTHER))
"""Names that :data:`MOST_TASKS` does not count."""

NO_TASKS: Mapping[str, TaskCount] = MappingProxyType({})


class TaskSeries:
    """The totals of one task name."""

    __slots__ = ("blocked_ns", "counted", "cpu_ns", "held_ns", "idle_since_ns", "ready", "waiting")

    def __init__(self, now_ns: int) -> None:
        self.cpu_ns = 0
        self.held_ns = 0
        self.blocked_ns = 0
        self.ready = 0
        self.waiting = 0
        self.counted = False
        """Tasks of this name have been counted."""
        self.idle_since_ns = now_ns

    def totals(self) -> TaskTotals:
        """Return the totals now."""
        alive = TaskCount(self.ready, self.waiting) if self.counted else None
        return TaskTotals(self.cpu_ns, self.held_ns, self.blocked_ns, alive)


class LoopSeries:
    """The totals of the loops of one thread series."""

    __slots__ = (
        *("_frozen", "_kinds", "_lag_sum_ns", "_lags", "_named", "_ready", "_recent", "_tasks"),
        "_telling",
    )

    def __init__(self) -> None:
        self._tasks: dict[str, TaskSeries] = {}
        self._named = 0
        """Names that :data:`MOST_TASKS` counts."""
        self._lags = [0] * (len(LAG_BUCKETS) + 1)
        self._lag_sum_ns = 0
        self._recent: deque[tuple[int, int]] = deque()
        """Times and ages; each age is larger than those that came later."""
        self._ready = 0
        """Callbacks that are ready, in all loops together."""
        self._telling = 0
        """How many loops tell that."""
        self._kinds: Counter[LoopKind] = Counter()
        """How many loops of each kind run now."""
        self._frozen: LoopTotals | None = None

    def place(self, name: str, now_ns: int) -> str:
        """Return the name that a task of this name is counted under: ``(other)`` if there is no room."""
        if name not in self._tasks:
            if name not in _OURS:
                if self._named >= MOST_TASKS:
                    return self.place(OTHER, now_ns)
                self._named += 1
            self._tasks[name] = TaskSeries(now_ns)
        return name

    def charge(self, name: str, cpu_ns: int, now_ns: int) -> None:
        """Charge CPU time to a placed name."""
        task = self._task(name, now_ns)
        task.cpu_ns += cpu_ns

    def hold(self, name: str, held_ns: int, blocked_ns: int, now_ns: int) -> None:
        """Count time in which a placed name had the loop, part of it for too long."""
        task = self._task(name, now_ns)
        task.held_ns += held_ns
        task.blocked_ns += blocked_ns

    def observe(self, age_ns: int, now_ns: int) -> None:
        """Count the age that one look has found."""
        self._frozen = None
        self._lags[bisect_left(_BOUNDS_NS, age_ns)] += 1
        self._lag_sum_ns += age_ns
        recent = self._recent
        while recent and recent[-1][1] <= age_ns:
            recent.pop()
        recent.append((now_ns, age_ns))
        while recent[0][0] <= now_ns - LAG_MAX_OVER_NS:
            recent.popleft()

    def count(
        self, before: Mapping[str, TaskCount], counts: Mapping[str, TaskCount], now_ns: int
    ) -> None:
        """Count the living tasks of one loop, by placed names, instead of those ``before``."""
        for name, were in before.items():
            task = self._task(name, now_ns)
            task.ready -= were.ready
            task.waiting -= were.waiting
        for name, are in counts.items():
            task = self._task(name, now_ns)
            task.ready += are.ready
            task.waiting += are.waiting
            task.counted = True

    def become(self, before: LoopKind | None, kind: LoopKind | None) -> None:
        """Count a loop of another kind than ``before``; None: no loop runs."""
        self._frozen = None
        if before is not None:
            self._kinds[before] -= 1
        if kind is not None:
            self._kinds[kind] += 1

    def wait_to_run(self, before: int | None, ready: int | None) -> None:
        """Count the callbacks that are ready in one loop, instead of those ``before``; None: not known."""
        self._frozen = None
        self._ready += (ready or 0) - (before or 0)
        self._telling += (ready is not None) - (before is not None)

    def _task(self, name: str, now_ns: int) -> TaskSeries:
        self._frozen = None
        task = self._tasks.get(name)
        if task is None:  # it has expired meanwhile, or is one of ours
            task = self._tasks[self.place(name, now_ns)]
        task.idle_since_ns = now_ns
        return task

    def absorb(self, other: LoopSeries, now_ns: int) -> None:
        """Take over the totals of a series in which no thread lives any more."""
        for name, theirs in other._tasks.items():
            task = self._task(self.place(name, now_ns), now_ns)
            task.cpu_ns += theirs.cpu_ns
            task.held_ns += theirs.held_ns
            task.blocked_ns += theirs.blocked_ns
        self._lags = [ours + theirs for ours, theirs in zip(self._lags, other._lags, strict=True)]
        self._lag_sum_ns += other._lag_sum_ns

    def expire(self, now_ns: int, after_ns: int) -> tuple[int | None, bool]:
        """Move names that have been idle for too long into ``(other)``.

        Returns when the next one may have been (CLOCK_MONOTONIC), and whether a name has been moved.
        """
        next_ns: int | None = None
        moved = False
        for name, task in list(self._tasks.items()):
            if name in _OURS or task.ready or task.waiting:
                continue
            expires_ns = task.idle_since_ns + after_ns
            if now_ns <= expires_ns:
                next_ns = expires_ns if next_ns is None else min(next_ns, expires_ns)
                continue
            moved = True
            del self._tasks[name]
            self._named -= 1
            self.charge(self.place(OTHER, now_ns), task.cpu_ns, now_ns)
            self.hold(OTHER, task.held_ns, task.blocked_ns, now_ns)
        return next_ns, moved

    def has(self, name: str) -> bool:
        """Return whether a name has totals of its own."""
        return name in self._tasks

    def totals(self) -> LoopTotals:
        """Return the totals now; the same object while nothing changes."""
        if self._frozen is None:
            self._frozen = LoopTotals(
                tasks=MappingProxyType({name: task.totals() for name, task in self._tasks.items()}),
                lags=tuple(self._lags),
                lag_sum_ns=self._lag_sum_ns,
                recent=tuple(self._recent),
                ready=self._ready if self._telling else None,
                kinds=tuple(sorted(kind for kind, loops in self._kinds.items() if loops)),
            )
        return self._frozen
