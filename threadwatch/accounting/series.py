"""Totals that only grow: one :class:`Series` for each set of series, and the groups that hold them.

:mod:`threadwatch.accounting.thread_account` has a living thread's place among them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from threadwatch.model.readings import COUNTED, Counts
from threadwatch.model.view import (
    OTHER,
    UNATTRIBUTED,
    GroupView,
    Per,
    ProcessKey,
    Python,
    SeriesKey,
    SeriesTotals,
    Source,
    StateTime,
)


class Series:
    """The totals of the threads that share one :class:`SeriesKey`."""

    __slots__ = (
        "_frozen",
        "changed",
        "counts",
        "ended",
        "gil_held_ns",
        "idle_since_ns",
        "living",
        "now",
        "owed",
        "ready_ns",
        "ran_ns",
        "runqueue_ns",
        "started",
        "states",
        "system_ns",
        "timeslices",
        "user_ns",
    )

    def __init__(self, now_ns: int) -> None:
        self.user_ns = 0
        self.system_ns = 0
        self.runqueue_ns: int | None = None
        self.timeslices: int | None = None
        self.counts: list[int | None] = [None] * len(COUNTED)
        """In the order of :data:`threadwatch.model.readings.COUNTED`; None where nothing is known."""
        self.gil_held_ns: int | None = None
        self.started = 0
        self.ended = 0
        self.living = 0
        self.now: dict[str, int] = {}
        """How many threads are in each state."""
        self.states: dict[str, StateTime] = {}
        """Time in states of waiting: a thread's time passes in its state until more is known."""
        self.ran_ns = 0
        self.ready_ns = 0
        """Time that threads ran and were ready to, since they were first seen."""
        self.owed: dict[str, int] = {}
        """Time by state that has passed in :attr:`states` and was spent otherwise."""
        self.idle_since_ns = now_ns
        """Since when nothing lives or is charged here; meaningless while threads live."""
        self.changed = True
        """Something has changed since :meth:`totals` was last asked."""
        self._frozen: SeriesTotals | None = None

    def touch(self, now_ns: int) -> None:
        """Say that something is about to change."""
        self.changed = True
        self.idle_since_ns = now_ns

    def enter(self, state: str, wait: str, now_ns: int) -> None:
        """A thread is in ``state`` from now on, and its time passes in ``wait``."""
        self.touch(now_ns)
        self.living += 1
        self.now[state] = self.now.get(state, 0) + 1
        self._count(wait, 1, now_ns)

    def leave(self, state: str, wait: str, now_ns: int) -> None:
        """A thread is no longer in ``state``."""
        self.touch(now_ns)
        self.living -= 1
        self.now[state] -= 1
        self._count(wait, -1, now_ns)

    def _count(self, state: str, by: int, now_ns: int) -> None:
        old = self.states.get(state)
        if old is None:
            self.states[state] = StateTime(by, 0, now_ns)
        else:
            self.states[state] = StateTime(old.count + by, old.at(now_ns), now_ns)

    def owe(self, state: str, spent_ns: int) -> None:
        """A thread whose time passes in ``state`` has spent so much of it otherwise."""
        self.owed[state] = self.owed.get(state, 0) + spent_ns

    def credit(self, state: str, spent_ns: int, now_ns: int) -> None:
        """A thread has spent so much time in this state of waiting."""
        old = self.states.get(state) or StateTime(0, 0, now_ns)
        self.states[state] = StateTime(old.count, old.at(now_ns) + spent_ns, now_ns)

    def _settle(self, now_ns: int, before_ns: int) -> None:
        """Take what is owed, but nothing that has been shown (at ``before_ns``, last): the rest waits."""
        shown = self._frozen.states if self._frozen is not None else {}
        for state, owed_ns in list(self.owed.items()):
            old = self.states.get(state) or StateTime(0, 0, now_ns)
            floor_ns = shown[state].at(before_ns) if state in shown else 0
            taken_ns = min(owed_ns, max(old.at(now_ns) - floor_ns, 0))
            self.states[state] = StateTime(old.count, old.at(now_ns) - taken_ns, now_ns)
            if owed_ns > taken_ns:
                self.owed[state] = owed_ns - taken_ns
            else:
                del self.owed[state]

    def count(self, known: Counts, seen: Counts) -> Counts:
        """Add what a thread has counted beyond ``known``; gives what is known of it now.

        A field that cannot be read for once is none the less known.
        """
        learnt = list(known)
        for index, (before, value) in enumerate(zip(known, seen, strict=True)):
            if value is None or (before is not None and value < before):
                continue
            self.counts[index] = (self.counts[index] or 0) + value - (before or 0)
            learnt[index] = value
        return tuple(learnt)

    def absorb(self, other: Series, now_ns: int) -> None:
        """Take over the totals of a series that no thread lives in any more."""
        self.touch(now_ns)
        self.user_ns += other.user_ns
        self.system_ns += other.system_ns
        self.started += other.started
        self.ended += other.ended
        if other.runqueue_ns is not None:
            self.runqueue_ns = (self.runqueue_ns or 0) + other.runqueue_ns
        if other.timeslices is not None:
            self.timeslices = (self.timeslices or 0) + other.timeslices
        for index, value in enumerate(other.counts):
            if value is not None:
                self.counts[index] = (self.counts[index] or 0) + value
        if other.gil_held_ns is not None:
            self.gil_held_ns = (self.gil_held_ns or 0) + other.gil_held_ns
        self.ran_ns += other.ran_ns
        self.ready_ns += other.ready_ns
        for state, time in other.states.items():
            self.credit(state, time.at(now_ns), now_ns)
        for state, owed_ns in other.owed.items():
            self.owe(state, owed_ns)
        for state in other.now:
            self.now.setdefault(state, 0)

    def totals(self, now_ns: int, before_ns: int) -> SeriesTotals:
        """The totals now; the same object as long as nothing changes. ``before_ns``: when last shown."""
        if self._frozen is None or self.changed:
            self._settle(now_ns, before_ns)
            self.changed = False
            states = dict(self.states)
            if self.ran_ns or "running" in self.now:
                states["running"] = StateTime(0, self.ran_ns, now_ns)
            if self.ready_ns or "runnable" in self.now:
                states["runnable"] = StateTime(0, self.ready_ns, now_ns)
            voluntary, involuntary, minor, major, read, write = self.counts
            self._frozen = SeriesTotals(
                user_ns=self.user_ns,
                system_ns=self.system_ns,
                runqueue_ns=self.runqueue_ns,
                timeslices=self.timeslices,
                voluntary_switches=voluntary,
                involuntary_switches=involuntary,
                minor_faults=minor or 0,
                major_faults=major or 0,
                read_bytes=read,
                write_bytes=write,
                gil_held_ns=self.gil_held_ns,
                started=self.started,
                ended=self.ended,
                states=MappingProxyType(states),
                now=MappingProxyType(dict(self.now)),
            )
        return self._frozen


_OTHER = SeriesKey(OTHER)
_LASTING = (_OTHER, SeriesKey(UNATTRIBUTED))


class Interpreter(NamedTuple):
    """What is known of a process's Python."""

    names_from: Source = "comm"
    python: Python | None = None


@dataclass(slots=True)
class Group:
    """One group's totals, and the rules by which its threads share series."""

    name: str
    per: Per
    cap: int
    fold: Callable[[str], str]
    expire_after_ns: int
    series: dict[SeriesKey, Series] = field(default_factory=dict)
    cpu_ns: int = 0
    ended_children_ns: int = 0
    """What of that was used by child processes that no poll has seen, or not to their ends."""
    processes: dict[ProcessKey, Interpreter] = field(default_factory=dict)
    """Those that live."""
    owner: int | None = None
    """The user whose process began it; None: the configuration, or we, have named it."""
    empty_since_ns: int = 0
    dropped: int = 0
    touched: bool = True
    """Something may have changed since the last view."""
    _named: int = 0
    """Series that the cap counts."""
    expire_in_ns: int = 0
    """CLOCK_MONOTONIC after which a series may have been idle for too long."""
    _view: GroupView | None = None

    def place(
        self, name: str, key: ProcessKey, tid: int | None, now_ns: int
    ) -> tuple[SeriesKey, Series]:
        """The series of a thread called ``name``; that of ``(other)`` if there is no room for one more."""
        full = self._key(self.fold(name), key, tid)
        series = self.series.get(full)
        if series is None:
            if self._named >= self.cap:
                self.dropped += 1
                return _OTHER, self.own(OTHER, None, now_ns)
            self._named += 1
            series = self.series[full] = Series(now_ns)
        return full, series

    def own(self, label: str, key: ProcessKey | None, now_ns: int) -> Series:
        """A series of ours, which the cap does not count: what is unattributed, or over the cap."""
        full = SeriesKey(label) if key is None else self._key(label, key, None)
        series = self.series.get(full)
        if series is None:
            series = self.series[full] = Series(now_ns)
        return series

    def charge_rest(
        self,
        key: ProcessKey,
        place: SeriesKey | None,
        cpu_ns: int,
        system_share: float,
        now_ns: int,
    ) -> None:
        """Charge what ended processes have used without having been seen; it is in no process clock.

        ``key``: whose it is, or its children's; ``place``: the series of its thread, if that is known.
        """
        series = None if place is None else self.series.get(place)
        if series is None:
            series = self.own(UNATTRIBUTED, key, now_ns)
            self.ended_children_ns += cpu_ns
        series.touch(now_ns)
        system_ns = round(cpu_ns * system_share)
        series.system_ns += system_ns
        series.user_ns += cpu_ns - system_ns
        self.cpu_ns += cpu_ns
        self.touched = True

    def _key(self, label: str, key: ProcessKey, tid: int | None) -> SeriesKey:
        if self.per == "group":
            return SeriesKey(label)
        return SeriesKey(label, key.pid, tid if self.per == "thread" else None)

    def expire(self, now_ns: int) -> bool:
        """Move what has been idle for too long into ``(other)``; whether the whole group is to go."""
        if not self.processes and now_ns - self.empty_since_ns > self.expire_after_ns:
            return True
        if now_ns <= self.expire_in_ns:
            return False
        self.expire_in_ns = now_ns + self.expire_after_ns
        for key, series in list(self.series.items()):
            if series.living or key in _LASTING:
                continue
            expires_ns = series.idle_since_ns + self.expire_after_ns
            if now_ns <= expires_ns:
                self.expire_in_ns = min(self.expire_in_ns, expires_ns)
                continue
            # the sum over threads must stay what the process clocks say
            self.touched = True
            del self.series[key]
            self._named -= key.thread != UNATTRIBUTED
            self.own(OTHER, None, now_ns).absorb(series, now_ns)
        return False

    def view(self, now_ns: int, before_ns: int) -> GroupView:
        """The totals now; the same object as long as nothing changes. ``before_ns``: when last shown."""
        if self._view is None or self.touched:
            self.touched = False
            living = self.processes.values()
            self._view = GroupView(
                name=self.name,
                per=self.per,
                cpu_ns=self.cpu_ns,
                ended_children_ns=self.ended_children_ns,
                processes=len(self.processes),
                names_from=MappingProxyType(Counter(p.names_from for p in living)),
                pythons=MappingProxyType(Counter(p.python for p in living if p.python)),
                series=MappingProxyType(
                    {key: s.totals(now_ns, before_ns) for key, s in self.series.items()}
                ),
                dropped=self.dropped,
            )
        return self._view
