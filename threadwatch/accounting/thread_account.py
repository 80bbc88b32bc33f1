"""Keeps a living thread's place among the series: what it gains, its series gains.

Only this module writes a :class:`ThreadAccount`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from threadwatch.accounting.series import Series
from threadwatch.model.keys import SeriesKey
from threadwatch.model.readings import (
    COUNTED,
    Counts,
    EndedThread,
    Identity,
    SlotKey,
    ThreadReading,
    ThreadTimes,
    Waits,
    counts_of,
)
from threadwatch.model.states import AWAKE, OF_LETTER, Kind, of_kind

_HALTED = frozenset(of_kind(Kind.HALTED))
_HALTED_LETTERS = frozenset(letter for letter, state in OF_LETTER.items() if state in _HALTED)
"""Letters of the kernel that no sample knows better."""

_NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(slots=True, eq=False)
class ThreadAccount:
    """A living thread: the series that it is charged to, and the clocks up to which it has been charged.

    Its time passes in :attr:`wait`, the state in which it was last seen waiting. The times that it
    runs and is ready to run, which the kernel counts to the nanosecond, are subtracted from that;
    and so are other waits that samples have seen.
    """

    key: SeriesKey
    series: Series
    state: str
    """Its present state."""
    wait: str
    """The state in which its time passes."""
    sample: ThreadReading
    """As it was last read in full."""
    user_ns: int = 0
    system_ns: int = 0
    system_share: float = 0.0
    """The share of its CPU time that it has spent in the kernel."""
    runqueue_ns: int = 0
    timeslices: int = 0
    gained_ns: int = 0
    waited_ns: int = 0
    """CPU time and run-queue wait that it was charged with last."""
    gil_held_ns: int | None = None
    gil_wait_ns: int = 0
    other_waits: Mapping[str, int] = field(default_factory=lambda: _NOTHING)
    """Time by state, in ns, that samples saw it spend in other states than :attr:`wait` was at the time."""
    counts: Counts = (None,) * len(COUNTED)
    recorded_ns: int = 0
    """The CPU time up to which its history has been kept."""
    told: EndedThread | None = None
    """The last end that its publisher has told of; the kernel may still show the thread."""

    @property
    def slot(self) -> SlotKey | None:
        """Return the slot in which its publisher has it; None: not known."""
        return self.sample.slot if self.told is None else self.told.slot

    def begin(self, now_ns: int) -> None:
        """Charge it for the first time: its CPU time so far. That belongs to no state."""
        self.series.begin(
            self.state, self.wait, self.user_ns + self.system_ns, self.runqueue_ns, now_ns
        )

    def end(self, now_ns: int) -> None:
        """Note that it has ended."""
        self.series.end(self.state, self.wait, now_ns)

    def place(self, key: SeriesKey, series: Series, now_ns: int) -> None:
        """Count it in another series from now on."""
        if series is not self.series:
            self.series.leave(self.state, self.wait, now_ns)
            series.enter(self.state, self.wait, now_ns)
        self.key, self.series = key, series

    def change(self, state: str, now_ns: int) -> None:
        """Put it in another state from now on."""
        wait = state
        if state in AWAKE:
            # Neither stopped nor dead, then; what it will wait for is not known yet.
            wait = "sleeping" if self.wait in _HALTED else self.wait
        if state != self.state or wait != self.wait:
            self.series.change(self.state, self.wait, (state, wait), now_ns)
            self.state, self.wait = state, wait

    def gain(self, thread: ThreadReading, now_ns: int, before: Series | None = None) -> int:
        """Charge what ``thread`` has beyond its charges; return the CPU time.

        ``before``: the series it belonged to until now, if that has changed. The time passed there,
        so the correction is made there.
        """
        series = self.series
        series.touch(now_ns)
        gained_ns = max(thread.cpu_ns - self.user_ns - self.system_ns, 0)
        counts = counts_of(thread)
        if counts != self.counts:
            self.counts = series.count(self.counts, counts)
        # The kernel splits the exact sum by sampled ticks; each part may only grow.
        ticks = thread.user_ticks + thread.system_ticks
        self.system_share = thread.system_ticks / ticks if ticks else 0.0
        self.gained_ns = self.waited_ns = user_ns = system_ns = 0
        if gained_ns:
            system_ns = round(thread.cpu_ns * self.system_share) - self.system_ns
            system_ns = min(max(system_ns, 0), gained_ns)
            user_ns = gained_ns - system_ns
            self.gained_ns = gained_ns
            self.system_ns += system_ns
            self.user_ns += user_ns
        ready_ns, timeslices = None, 0
        if thread.runqueue_ns is not None and thread.timeslices is not None:
            ready_ns, timeslices = self._queue(thread.runqueue_ns, thread.timeslices)
        series.gain(self.wait, user_ns, system_ns, ready_ns, timeslices, before)
        self.sample = thread
        return gained_ns

    def _queue(self, runqueue_ns: int, timeslices: int) -> tuple[int, int]:
        """Note what schedstat counts beside CPU time; return what it has gained: both at least 0."""
        ready_ns, more = runqueue_ns - self.runqueue_ns, timeslices - self.timeslices
        if more > 0:
            self.timeslices = timeslices
        self.waited_ns = ready_ns
        if ready_ns > 0:
            self.runqueue_ns = runqueue_ns
        return max(ready_ns, 0), max(more, 0)

    def hear(self, end: EndedThread) -> None:
        """Note what is told of its end. An end that says what it has used counts before others."""
        if end.cpu_ns is not None or self.told is None:
            self.told = end

    def forgive(self, cpu_ns: int) -> None:
        """Take CPU time as charged that will not be."""
        self.user_ns += cpu_ns

    def skip(self, thread: ThreadReading) -> None:
        """Take all that a thread has used as charged: it will be charged from the process's clock."""
        self.user_ns, self.sample = thread.cpu_ns, thread

    def become(self, tid: int, start_ticks: int) -> None:
        """Have another TID and start time: those of the leader, after an exec."""
        self.sample = self.sample._replace(tid=tid, start_ticks=start_ticks)

    def spent(self) -> tuple[int, int, int | None, int]:
        """Return CPU time, run-queue wait, time that it held the GIL and that it waited for it, in ns."""
        return self.user_ns + self.system_ns, self.runqueue_ns, self.gil_held_ns, self.gil_wait_ns

    def credit(self, waits: Waits, now_ns: int, *, has_gil: bool) -> None:
        """Charge what samples have seen since the last charge, before any other charge."""
        if self.sample.state in _HALTED_LETTERS:  # in any call
            return
        series = self.series
        series.touch(now_ns)
        for state, spent_ns in waits.times.items():
            # The clocks know better how long it ran; and in its own state, its time passes by
            # itself.
            if state not in AWAKE and state != self.wait:
                series.credit(state, spent_ns, now_ns)
                series.correct(self.wait, spent_ns)
                known = self.other_waits
                self.other_waits = {**known, state: known.get(state, 0) + spent_ns}
        if has_gil:
            self.gil_held_ns = (self.gil_held_ns or 0) + waits.gil_held_ns
            self.gil_wait_ns += waits.times.get("gil", 0)
            series.hold_gil(waits.gil_held_ns)

    def see(self, waits: Waits, now_ns: int, *, has_gil: bool) -> None:
        """Put it in the state that it was last seen in. Its clocks have been charged before."""
        if self.sample.state in _HALTED_LETTERS:
            return
        if has_gil and self.gil_held_ns is None:
            self.gil_held_ns = 0
            self.series.touch(now_ns)
            self.series.hold_gil(0)
        state = waits.state
        if state in AWAKE and self.wait == "sleeping":
            # No sample has seen yet what it waits for, but in between.
            reasons = [other for other in waits.times if other not in AWAKE]
            if reasons:
                self.change(max(reasons, key=waits.times.__getitem__), now_ns)
        if state == "running" and self.waited_ns > self.gained_ns:
            state = "runnable"
        self.change(state, now_ns)


def take_unrecorded(
    accounts: Mapping[Identity, ThreadAccount],
) -> Iterator[tuple[Identity, int]]:
    """Yield the threads that have been charged since the last time, and their CPU time since then.

    In one loop, without a call for each thread.
    """
    for identity, account in accounts.items():
        cpu_ns = account.user_ns + account.system_ns
        gained_ns = cpu_ns - account.recorded_ns
        if gained_ns > 0:
            account.recorded_ns = cpu_ns
            yield identity, gained_ns


def charge_times(accounts: Mapping[Identity, ThreadAccount], times: Iterable[ThreadTimes]) -> int:
    """Charge threads of which nothing but the clocks has been read; return the CPU time.

    As :meth:`ThreadAccount.gain` does, in one piece: it runs for each active thread. A thread without an
    account is not charged before it has a name.
    """
    charged_ns = 0
    for thread in times:
        account = accounts.get(thread.identity)
        if account is None:
            continue
        user_ns = system_ns = 0
        gained_ns = thread.cpu_ns - account.user_ns - account.system_ns
        if gained_ns > 0:
            system_ns = int(gained_ns * account.system_share)
            user_ns = gained_ns - system_ns
            account.system_ns += system_ns
            account.user_ns += user_ns
            charged_ns += gained_ns
        account.gained_ns = gained_ns
        runqueue_ns, timeslices = thread.runqueue_ns, thread.timeslices
        if runqueue_ns is None or timeslices is None:
            account.series.gain(account.wait, user_ns, system_ns, None, 0)
            continue
        ready_ns = account.waited_ns = runqueue_ns - account.runqueue_ns
        if ready_ns > 0:
            account.runqueue_ns = runqueue_ns
        more = timeslices - account.timeslices
        if more > 0:
            account.timeslices = timeslices
        account.series.gain(account.wait, user_ns, system_ns, ready_ns, more)
    return charged_ns
