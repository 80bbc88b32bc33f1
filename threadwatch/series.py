"""Totals that only grow: one :class:`Series` for each set of series, and the groups that hold them.

An :class:`Entry` is a living thread's place among them: what it gains, its series gains.
"""

from __future__ import annotations

from collections import Counter
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
    ThreadView,
)
from threadwatch.samples import COUNTED, Counts, ThreadSample, counts_of


class Series:
    """The totals of the threads that share one :class:`SeriesKey`."""

    __slots__ = (
        "_frozen",
        "changed",
        "counts",
        "ended",
        "idle_since_ns",
        "living",
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
        """In the order of :data:`threadwatch.samples.COUNTED`; None where nothing is known."""
        self.started = 0
        self.ended = 0
        self.states: dict[str, StateTime] = {}
        self.living = 0
        self.idle_since_ns = now_ns
        """Since when nothing lives or is charged here; meaningless while threads live."""
        self.changed = True
        """Something has changed since :meth:`totals` was last asked."""
        self._frozen: SeriesTotals | None = None

    def touch(self, now_ns: int) -> None:
        """Say that something is about to change."""
        self.changed = True
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
        for state, time in other.states.items():
            mine = self.states.get(state, StateTime(0, 0, now_ns))
            self.states[state] = StateTime(mine.count, mine.at(now_ns) + time.at(now_ns), now_ns)

    def totals(self) -> SeriesTotals:
        """The totals now; the same object as long as nothing changes."""
        if self._frozen is None or self.changed:
            self.changed = False
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
                started=self.started,
                ended=self.ended,
                states=MappingProxyType(dict(self.states)),
            )
        return self._frozen


@dataclass(slots=True, eq=False)
class Entry:
    """A living thread: where it is charged, and up to where it has been."""

    key: SeriesKey
    series: Series
    state: str
    sample: ThreadSample
    """As it was last read in full."""
    user_ns: int = 0
    system_ns: int = 0
    system_share: float = 0.0
    """Which part of its CPU time it has spent in the kernel."""
    runqueue_ns: int = 0
    timeslices: int = 0
    counts: Counts = (None,) * len(COUNTED)
    ended: bool = False
    """It has been charged with its last sum; the kernel may still show it."""
    view: ThreadView | None = None
    """As it was last shown."""
    _shown: tuple[ThreadSample, SeriesKey, str] | None = None
    """What :attr:`view` was made from, beside CPU time."""

    def show(self, elapsed_ns: int | None) -> None:
        """Bring :attr:`view` up to date; what is new in it happened in the last ``elapsed_ns``."""
        sample, view = self.sample, self.view
        shown = (sample, self.key, self.state)
        ratio = None
        if view is not None and elapsed_ns is not None:
            gained_ns = self.user_ns + self.system_ns - view.user_ns - view.system_ns
            ratio = gained_ns / max(elapsed_ns, 1)
            if not gained_ns and view.cpu_ratio == 0.0 and self._shown == shown:
                return
        self._shown = shown
        self.view = ThreadView(
            tid=sample.tid,
            start_ticks=sample.start_ticks,
            name=sample.name,
            source=sample.source,
            thread=self.key.thread,
            comm=sample.comm,
            state=self.state,
            user_ns=self.user_ns,
            system_ns=self.system_ns,
            cpu_ratio=ratio,
            last_cpu=sample.last_cpu,
            name_cut=sample.name_cut,
        )

    def begin(self, now_ns: int) -> None:
        """It is charged for the first time."""
        self.series.started += 1
        self.series.enter(self.state, now_ns)

    def end(self, now_ns: int) -> None:
        """It lives no more."""
        self.series.leave(self.state, now_ns)
        self.series.ended += 1

    def change(self, key: SeriesKey, series: Series, state: str, now_ns: int) -> None:
        """Count it elsewhere from now on: in another series, in another state, or both."""
        if series is not self.series or state != self.state:
            self.series.leave(self.state, now_ns)
            series.enter(state, now_ns)
        self.key, self.series, self.state = key, series, state

    def gain(self, thread: ThreadSample, now_ns: int) -> int:
        """Charge what ``thread`` has beyond what has been charged; gives the CPU time."""
        gained_ns = max(thread.cpu_ns - self.user_ns - self.system_ns, 0)
        counts = counts_of(thread)
        if counts != self.counts:
            self.series.touch(now_ns)
            self.counts = self.series.count(self.counts, counts)
        if thread.runqueue_ns is not None and thread.timeslices is not None:
            self.series.touch(now_ns)
            self.wait(thread.runqueue_ns, thread.timeslices)
        # the kernel splits the exact sum by ticks that it sampled; each part may only grow
        ticks = thread.user_ticks + thread.system_ticks
        self.system_share = thread.system_ticks / ticks if ticks else 0.0
        if gained_ns:
            system_ns = round(thread.cpu_ns * self.system_share) - self.system_ns
            self.charge(gained_ns, min(max(system_ns, 0), gained_ns), now_ns)
        self.sample = thread
        return gained_ns

    def wait(self, runqueue_ns: int, timeslices: int) -> None:
        """Charge what schedstat has counted beside CPU time."""
        series = self.series
        more_ns, more = runqueue_ns - self.runqueue_ns, timeslices - self.timeslices
        if series.runqueue_ns is None or series.timeslices is None:
            series.runqueue_ns = series.timeslices = 0
        if more_ns > 0:
            series.runqueue_ns += more_ns
            self.runqueue_ns = runqueue_ns
        if more > 0:
            series.timeslices += more
            self.timeslices = timeslices

    def charge(self, cpu_ns: int, system_ns: int, now_ns: int) -> None:
        """Charge CPU time, of which ``system_ns`` was spent in the kernel."""
        self.series.touch(now_ns)
        self.user_ns += cpu_ns - system_ns
        self.system_ns += system_ns
        self.series.user_ns += cpu_ns - system_ns
        self.series.system_ns += system_ns


_OTHER = SeriesKey(OTHER)
_LASTING = (_OTHER, SeriesKey(UNATTRIBUTED))


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

    def view(self) -> GroupView:
        """The totals as they are now; the same object as long as nothing changes."""
        if self._view is None or self.touched:
            self.touched = False
            self._view = GroupView(
                name=self.name,
                per=self.per,
                cpu_ns=self.cpu_ns,
                processes=len(self.processes),
                published=sum(self.processes.values()),
                series=MappingProxyType({k: series.totals() for k, series in self.series.items()}),
                dropped=self.dropped,
            )
        return self._view


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
