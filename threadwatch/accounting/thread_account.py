"""A living thread's place among the series: what it gains, its series gains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from threadwatch.accounting.series import Series
from threadwatch.model.readings import COUNTED, Counts, EndedThread, ThreadReading, Waits, counts_of
from threadwatch.model.states import AWAKE, OF_LETTER, Kind, of_kind
from threadwatch.model.view import SeriesKey

_HALTED = frozenset(of_kind(Kind.HALTED))
_HALTED_LETTERS = frozenset(letter for letter, state in OF_LETTER.items() if state in _HALTED)
"""Letters of the kernel that no sample knows better."""

_NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(slots=True, eq=False)
class ThreadAccount:
    """A living thread: where it is charged, and up to where it has been.

    Its time passes in :attr:`wait`, the state in which it was last seen waiting. What it runs and is ready
    to run, which the kernel counts to the nanosecond, is taken from that; and so is what samples have seen of
    other waits. What is left over is where it was last.
    """

    key: SeriesKey
    series: Series
    state: str
    """What it does now."""
    wait: str
    """Where its time passes."""
    sample: ThreadReading
    """As it was last read in full."""
    user_ns: int = 0
    system_ns: int = 0
    system_share: float = 0.0
    """Which part of its CPU time it has spent in the kernel."""
    runqueue_ns: int = 0
    timeslices: int = 0
    gained_ns: int = 0
    waited_ns: int = 0
    """CPU time and run-queue wait that it was charged with last."""
    gil_held_ns: int | None = None
    gil_wait_ns: int = 0
    elsewhere: Mapping[str, int] = field(default_factory=lambda: _NOTHING)
    """Time by state, in ns, that samples saw it spend in other states than :attr:`wait` was at the time."""
    counts: Counts = (None,) * len(COUNTED)
    recorded_ns: int = 0
    """Up to which CPU time its history has been kept."""
    told: EndedThread | None = None
    """The last that its publisher has told of its end; the kernel may still show it."""

    def begin(self, now_ns: int) -> None:
        """It is charged for the first time: with its whole life, which is in no state."""
        self.series.started += 1
        self.series.enter(self.state, self.wait, now_ns)
        self.series.owe(self.wait, -(self.user_ns + self.system_ns + self.runqueue_ns))
        self.series.ran_ns -= self.user_ns + self.system_ns
        self.series.ready_ns -= self.runqueue_ns

    def end(self, now_ns: int) -> None:
        """It lives no more."""
        self.series.leave(self.state, self.wait, now_ns)
        self.series.ended += 1

    def place(self, key: SeriesKey, series: Series, now_ns: int) -> None:
        """Count it in another series from now on."""
        if series is not self.series:
            self.series.leave(self.state, self.wait, now_ns)
            series.enter(self.state, self.wait, now_ns)
        self.key, self.series = key, series

    def change(self, state: str, now_ns: int) -> None:
        """It is in another state from now on."""
        wait = state
        if state in AWAKE:
            # neither stopped nor dead, then; what it will wait for is not known yet
            wait = "sleeping" if self.wait in _HALTED else self.wait
        if state != self.state or wait != self.wait:
            self.series.leave(self.state, self.wait, now_ns)
            self.series.enter(state, wait, now_ns)
            self.state, self.wait = state, wait

    def gain(self, thread: ThreadReading, now_ns: int, before: Series | None = None) -> int:
        """Charge what ``thread`` has beyond what has been charged; gives the CPU time.

        ``before`` is the series that it was in meanwhile, if it is in another one now: its time has passed
        there, and so what it did not wait is taken from there.
        """
        series = self.series
        series.touch(now_ns)
        gained_ns = max(thread.cpu_ns - self.user_ns - self.system_ns, 0)
        counts = counts_of(thread)
        if counts != self.counts:
            self.counts = series.count(self.counts, counts)
        # the kernel splits the exact sum by ticks that it sampled; each part may only grow
        ticks = thread.user_ticks + thread.system_ticks
        self.system_share = thread.system_ticks / ticks if ticks else 0.0
        self.gained_ns = self.waited_ns = spent_ns = 0
        if gained_ns:
            system_ns = round(thread.cpu_ns * self.system_share) - self.system_ns
            self.charge(gained_ns, min(max(system_ns, 0), gained_ns))
            spent_ns = gained_ns
        if thread.runqueue_ns is not None and thread.timeslices is not None:
            spent_ns += self.queue(thread.runqueue_ns, thread.timeslices)
        (before or series).owe(self.wait, spent_ns)
        self.sample = thread
        return gained_ns

    def charge(self, cpu_ns: int, system_ns: int) -> None:
        """Charge CPU time, of which ``system_ns`` was spent in the kernel; it is yet to be owed."""
        series = self.series
        self.gained_ns = cpu_ns
        self.system_ns += system_ns
        series.system_ns += system_ns
        self.user_ns += cpu_ns - system_ns
        series.user_ns += cpu_ns - system_ns
        series.ran_ns += cpu_ns

    def queue(self, runqueue_ns: int, timeslices: int) -> int:
        """Charge what schedstat has counted beside CPU time; gives the time without a CPU, which is owed."""
        series = self.series
        more_ns, more = runqueue_ns - self.runqueue_ns, timeslices - self.timeslices
        if series.runqueue_ns is None or series.timeslices is None:
            series.runqueue_ns = series.timeslices = 0
        if more > 0:
            series.timeslices += more
            self.timeslices = timeslices
        self.waited_ns = more_ns
        if more_ns <= 0:
            return 0
        self.runqueue_ns = runqueue_ns
        series.runqueue_ns += more_ns
        series.ready_ns += more_ns
        return more_ns

    def spent(self) -> tuple[int, int, int | None, int]:
        """CPU time, run-queue wait, time that it held the GIL and that it waited for it, in ns."""
        return self.user_ns + self.system_ns, self.runqueue_ns, self.gil_held_ns, self.gil_wait_ns

    def credit(self, waits: Waits, now_ns: int, *, has_gil: bool) -> None:
        """Charge what samples have seen since it was last charged, before anything else is charged."""
        if self.sample.state in _HALTED_LETTERS:  # in whatever call that was
            return
        series = self.series
        series.touch(now_ns)
        for state, spent_ns in waits.times.items():
            # the clocks know better how long it ran; and in its own state, its time passes by itself
            if state not in AWAKE and state != self.wait:
                series.credit(state, spent_ns, now_ns)
                series.owe(self.wait, spent_ns)
                known = self.elsewhere
                self.elsewhere = {**known, state: known.get(state, 0) + spent_ns}
        if has_gil:
            self.gil_held_ns = (self.gil_held_ns or 0) + waits.gil_held_ns
            self.gil_wait_ns += waits.times.get("gil", 0)
            series.gil_held_ns = (series.gil_held_ns or 0) + waits.gil_held_ns

    def see(self, waits: Waits, now_ns: int, *, has_gil: bool) -> None:
        """Be in the state that it was seen in last. Its clocks have been charged before."""
        if self.sample.state in _HALTED_LETTERS:
            return
        if has_gil and self.gil_held_ns is None:
            self.gil_held_ns = 0
            self.series.touch(now_ns)
            self.series.gil_held_ns = self.series.gil_held_ns or 0
        state = waits.state
        if state in AWAKE and self.wait == "sleeping":
            # nobody has seen yet what it waits for, but in between
            reasons = [other for other in waits.times if other not in AWAKE]
            if reasons:
                self.change(max(reasons, key=waits.times.__getitem__), now_ns)
        if state == "running" and self.waited_ns > self.gained_ns:
            state = "runnable"
        self.change(state, now_ns)
