"""Totals that only grow: one :class:`Series` for each set of series, and the groups that hold them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType

from threadwatch.model import (
    OTHER,
    UNATTRIBUTED,
    GroupView,
    Per,
    ProcessKey,
    SeriesKey,
    SeriesTotals,
    StateTime,
)


class Series:
    """The totals of the threads that share one :class:`SeriesKey`."""

    __slots__ = (
        "_frozen",
        "ended",
        "idle_since_ns",
        "involuntary_switches",
        "living",
        "major_faults",
        "minor_faults",
        "read_bytes",
        "runqueue_ns",
        "started",
        "states",
        "system_ns",
        "timeslices",
        "user_ns",
        "voluntary_switches",
        "write_bytes",
    )

    def __init__(self, now_ns: int) -> None:
        self.user_ns = 0
        self.system_ns = 0
        self.runqueue_ns: int | None = None
        self.timeslices: int | None = None
        self.voluntary_switches: int | None = None
        self.involuntary_switches: int | None = None
        self.minor_faults = 0
        self.major_faults = 0
        self.read_bytes: int | None = None
        self.write_bytes: int | None = None
        self.started = 0
        self.ended = 0
        self.states: dict[str, StateTime] = {}
        self.living = 0
        self.idle_since_ns = now_ns
        """Since when nothing lives or is charged here; meaningless while threads live."""
        self._frozen: SeriesTotals | None = None

    def touch(self, now_ns: int) -> None:
        """Say that something is about to change."""
        self._frozen = None
        self.idle_since_ns = now_ns

    def enter(self, state: str, now_ns: int) -> None:
        """A thread is in ``state`` from now on."""
        self.touch(now_ns)
        self.living += 1
        self._count(state, 1, now_ns)

    def leave(self, state: str, now_ns: int) -> None:
        """A thread is no longer in ``state``."""
        self.touch(now_ns)
        self.living -= 1
        self._count(state, -1, now_ns)

    def _count(self, state: str, by: int, now_ns: int) -> None:
        old = self.states.get(state)
        if old is None:
            self.states[state] = StateTime(by, 0, now_ns)
        else:
            self.states[state] = StateTime(old.count + by, old.at(now_ns), now_ns)

    def absorb(self, other: Series, now_ns: int) -> None:
        """Take over the totals of a series that no thread lives in any more."""
        self.touch(now_ns)
        self.user_ns += other.user_ns
        self.system_ns += other.system_ns
        self.minor_faults += other.minor_faults
        self.major_faults += other.major_faults
        self.started += other.started
        self.ended += other.ended
        self.runqueue_ns = plus(self.runqueue_ns, other.runqueue_ns)
        self.timeslices = plus(self.timeslices, other.timeslices)
        self.voluntary_switches = plus(self.voluntary_switches, other.voluntary_switches)
        self.involuntary_switches = plus(self.involuntary_switches, other.involuntary_switches)
        self.read_bytes = plus(self.read_bytes, other.read_bytes)
        self.write_bytes = plus(self.write_bytes, other.write_bytes)
        for state, time in other.states.items():
            mine = self.states.get(state, StateTime(0, 0, now_ns))
            self.states[state] = StateTime(mine.count, mine.at(now_ns) + time.at(now_ns), now_ns)

    def totals(self) -> SeriesTotals:
        """The totals now; the same object as long as nothing changes."""
        if self._frozen is None:
            self._frozen = SeriesTotals(
                user_ns=self.user_ns,
                system_ns=self.system_ns,
                runqueue_ns=self.runqueue_ns,
                timeslices=self.timeslices,
                voluntary_switches=self.voluntary_switches,
                involuntary_switches=self.involuntary_switches,
                minor_faults=self.minor_faults,
                major_faults=self.major_faults,
                read_bytes=self.read_bytes,
                write_bytes=self.write_bytes,
                started=self.started,
                ended=self.ended,
                states=MappingProxyType(dict(self.states)),
            )
        return self._frozen


def plus(total: int | None, more: int | None) -> int | None:
    """The sum of what is known; None while nothing is."""
    if more is None:
        return total
    return more if total is None else total + more


_LASTING = (SeriesKey(OTHER), SeriesKey(UNATTRIBUTED))


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
    processes: dict[ProcessKey, bool] = field(default_factory=dict)
    """Those that live, and whether they publish."""
    empty_since_ns: int = 0
    dropped: int = 0
    _named: int = 0
    """Series that the cap counts."""

    def place(self, name: str, key: ProcessKey, tid: int | None, now_ns: int) -> tuple[str, Series]:
        """The series of a thread, under the label that it has there."""
        label = self.fold(name)
        full = self._key(label, key, tid)
        series = self.series.get(full)
        if series is None:
            if self._named >= self.cap:
                self.dropped += 1
                return OTHER, self.own(OTHER, None, now_ns)
            self._named += 1
            series = self.series[full] = Series(now_ns)
        return label, series

    def own(self, label: str, key: ProcessKey | None, now_ns: int) -> Series:
        """A series of ours, which the cap does not count: what is unattributed, or over the cap."""
        full = SeriesKey(label) if key is None else self._key(label, key, None)
        series = self.series.get(full)
        if series is None:
            series = self.series[full] = Series(now_ns)
        return series

    def _key(self, label: str, key: ProcessKey, tid: int | None) -> SeriesKey:
        if self.per == "group":
            return SeriesKey(label)
        return SeriesKey(label, key.pid, tid if self.per == "thread" else None)

    def expire(self, now_ns: int) -> bool:
        """Move what has been idle for too long into ``(other)``; whether the whole group is to go."""
        if not self.processes and now_ns - self.empty_since_ns > self.expire_after_ns:
            return True
        for key, series in list(self.series.items()):
            old = not series.living and now_ns - series.idle_since_ns > self.expire_after_ns
            if old and key not in _LASTING:
                # the sum over threads must stay what the process clocks say
                del self.series[key]
                self._named -= key.thread != UNATTRIBUTED
                self.own(OTHER, None, now_ns).absorb(series, now_ns)
        return False

    def view(self) -> GroupView:
        """The totals as they are now."""
        return GroupView(
            name=self.name,
            per=self.per,
            cpu_ns=self.cpu_ns,
            processes=len(self.processes),
            published=sum(self.processes.values()),
            series=MappingProxyType({key: series.totals() for key, series in self.series.items()}),
            dropped=self.dropped,
        )
