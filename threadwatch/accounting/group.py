"""Keeps groups, which hold the series of the threads of their processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from threadwatch.accounting.series import Series
from threadwatch.labels.alike import Alike
from threadwatch.model.keys import (
    OTHER,
    UNATTRIBUTED,
    Per,
    Place,
    ProcessKey,
    Python,
    SeriesKey,
    Source,
)
from threadwatch.model.view import GroupView

_OTHER = SeriesKey(OTHER)
_LASTING = (_OTHER, SeriesKey(UNATTRIBUTED))


class Interpreter(NamedTuple):
    """The known facts about a process's Python."""

    names_from: Source = "comm"
    python: Python | None = None


@dataclass(frozen=True, slots=True)
class GroupRules:
    """The rules by which a group's threads become series."""

    per: Per
    cap: int
    fold: Callable[[str], str]
    """The thread's label by its name; the same label is the same series."""
    expire_after_ns: int
    fold_task: Callable[[str], str] = str
    """The label of a task by its name."""
    blocked_after_ns: int = 100_000_000
    """A loop that has not come back to its selector for longer than this is blocked."""
    fixed: bool = False
    """The configuration gives the group its name, which does not depend on its processes."""


class _Members(NamedTuple):
    """The sources of names, Pythons and places of a group's processes; as in :class:`.GroupView`."""

    names_from: Mapping[Source, int]
    pythons: Mapping[Python, int]
    places: frozenset[Place]


@dataclass(slots=True)
class Group:
    """One group's totals, and the rules by which its threads share series. Only this module writes them."""

    name: str
    per: Per
    cap: int
    fold: Callable[[str], str]
    expire_after_ns: int
    fold_task: Callable[[str], str] = str
    blocked_after_ns: int = 0
    series: dict[SeriesKey, Series] = field(default_factory=dict)
    cpu_ns: int = 0
    ended_children_ns: int = 0
    """How much of that was used by child processes that no poll has seen, or not to their ends."""
    throttled_ns: int | None = None
    """How long its processes were throttled; None: not known."""
    processes: dict[ProcessKey, Interpreter] = field(default_factory=dict)
    """The living processes, by key."""
    places: dict[ProcessKey, Place] = field(default_factory=dict)
    """The places where the living processes run."""
    _members: _Members | None = None
    """Of :attr:`processes` and :attr:`places`; None: to be counted again."""
    owner: int | None = None
    """The user whose process began it; None: the configuration, or we, have named it."""
    empty_since_ns: int = 0
    dropped: int = 0
    touched: bool = True
    """Something may have changed since the last view."""
    _named: int = 0
    """Series that the cap counts."""
    _alike: Alike = field(default_factory=Alike)
    """The names of these series."""
    expire_in_ns: int = 0
    """CLOCK_MONOTONIC after which a series may have been idle for too long."""
    _view: GroupView | None = None

    def use(self, rules: GroupRules) -> None:
        """Let threads share series by these rules from now on."""
        self.per, self.cap, self.fold = rules.per, rules.cap, rules.fold
        self.fold_task, self.blocked_after_ns = rules.fold_task, rules.blocked_after_ns
        if self.expire_after_ns != rules.expire_after_ns:
            self.expire_after_ns, self.expire_in_ns = rules.expire_after_ns, 0

    def touch(self) -> None:
        """Say that something may change before the next view."""
        self.touched = True

    def turn_away(self) -> None:
        """Count a process whose own group has found no room."""
        self.dropped += 1
        self.touched = True

    def join(self, key: ProcessKey, interpreter: Interpreter) -> None:
        """Count a process that lives."""
        if self.processes.get(key) != interpreter:
            self.processes[key] = interpreter
            self._members = None

    def locate(self, key: ProcessKey, place: Place) -> None:
        """Note where a process runs."""
        self.places[key] = place
        self._members = None
        self.touched = True

    def leave(self, key: ProcessKey, now_ns: int) -> Interpreter:
        """Count a process no longer; return what was known of its Python."""
        interpreter = self.processes.pop(key, Interpreter())
        self.places.pop(key, None)
        self._members = None
        self.touched = True
        if not self.processes:
            self.empty_since_ns = now_ns
        return interpreter

    def charge_clock(self, cpu_ns: int) -> None:
        """Add what the clock of one of its processes has gained."""
        self.cpu_ns += cpu_ns

    def throttle(self, gained_ns: int) -> None:
        """Add time for which its processes were throttled; 0 says that it is known."""
        if gained_ns or self.throttled_ns is None:
            self.throttled_ns = (self.throttled_ns or 0) + gained_ns
            self.touched = True

    def place(
        self, name: str, key: ProcessKey, tid: int | None, now_ns: int
    ) -> tuple[SeriesKey, Series]:
        """Return the series of a thread called ``name``; that of ``(other)`` if there is no room."""
        full = self._key(self.fold(name), key, tid)
        series = self.series.get(full)
        if series is None:
            if self._named >= self.cap:
                self.dropped += 1
                return _OTHER, self.own(OTHER, None, now_ns)
            self._named += 1
            self._alike.add(full.thread)
            series = self.series[full] = Series(now_ns)
        return full, series

    def own(self, label: str, key: ProcessKey | None, now_ns: int) -> Series:
        """Return a series of ours, which the cap does not count: what is unattributed, or over the cap."""
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
        """Charge CPU time that ended processes have used unseen; it is in no process clock.

        ``key``: the process that used it, or whose children did; ``place``: the series of its
        thread, if known.
        """
        series = None if place is None else self.series.get(place)
        if series is None:
            series = self.own(UNATTRIBUTED, key, now_ns)
            self.ended_children_ns += cpu_ns
        series.touch(now_ns)
        system_ns = round(cpu_ns * system_share)
        series.charge(cpu_ns, system_ns)
        self.cpu_ns += cpu_ns
        self.touched = True

    def _key(self, label: str, key: ProcessKey, tid: int | None) -> SeriesKey:
        if self.per == "group":
            return SeriesKey(label)
        return SeriesKey(label, key.pid, tid if self.per == "thread" else None)

    def expire(self, now_ns: int) -> bool:
        """Move series that have been idle too long into ``(other)``; return whether the group has to go."""
        if not self.processes and now_ns - self.empty_since_ns > self.expire_after_ns:
            return True
        if now_ns <= self.expire_in_ns:
            return False
        self.expire_in_ns = now_ns + self.expire_after_ns
        for key, series in list(self.series.items()):
            expires_ns = series.idle_since_ns + self.expire_after_ns
            stays = series.living or key in _LASTING
            if stays or now_ns <= expires_ns:
                tasks_ns = series.expire_tasks(now_ns, self.expire_after_ns)
                self.touched = self.touched or series.changed
                for next_ns in (None if stays else expires_ns, tasks_ns):
                    if next_ns is not None:
                        self.expire_in_ns = min(self.expire_in_ns, next_ns)
                continue
            # The sum over threads must stay that of the process clocks.
            self.touched = True
            del self.series[key]
            if key.thread != UNATTRIBUTED:
                self._named -= 1
                self._alike.remove(key.thread)
            self.own(OTHER, None, now_ns).absorb(series, now_ns)
        return False

    def view(self, now_ns: int, before_ns: int) -> GroupView:
        """Return the totals now; the same object while nothing changes. ``before_ns``: when last shown."""
        if self._view is None or self.touched:
            self.touched = False
            members = self._members = self._members or self._count()
            self._view = GroupView(
                name=self.name,
                per=self.per,
                cpu_ns=self.cpu_ns,
                ended_children_ns=self.ended_children_ns,
                processes=len(self.processes),
                names_from=members.names_from,
                pythons=members.pythons,
                series=MappingProxyType(
                    {key: s.totals(now_ns, before_ns) for key, s in self.series.items()}
                ),
                dropped=self.dropped,
                foldable_names=self._alike.foldable,
                places=members.places,
                throttled_ns=self.throttled_ns,
            )
        return self._view

    def _count(self) -> _Members:
        living = self.processes.values()
        return _Members(
            MappingProxyType(Counter(one.names_from for one in living)),
            MappingProxyType(Counter(one.python for one in living if one.python)),
            frozenset(self.places.values()),
        )
