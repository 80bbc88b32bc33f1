"""Keeps totals that only grow: one :class:`Series` for each set of series. Only this module writes them.

:mod:`threadwatch.accounting.thread_account` has a living thread's place among them,
:mod:`threadwatch.accounting.group` the groups that hold them.
"""

from __future__ import annotations

from types import MappingProxyType

from threadwatch.accounting.loop_series import LoopSeries
from threadwatch.model.readings import COUNTED, Counts
from threadwatch.model.view import SeriesTotals, StateTime


class Series:
    """The totals of the threads that share one :class:`SeriesKey`."""

    __slots__ = (
        "_frozen",
        "changed",
        "corrections",
        "counts",
        "ended",
        "gil_held_ns",
        "idle_since_ns",
        "living",
        "loop",
        "now",
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
        self.loop: LoopSeries | None = None
        """The totals of the loops that its threads run; None: none has been seen."""
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
        self.corrections: dict[str, int] = {}
        """Time by state that was counted in :attr:`states` and was spent in something else."""
        self.idle_since_ns = now_ns
        """The time since which no thread lives or is charged here; meaningless while threads live."""
        self.changed = True
        """Something has changed since :meth:`totals` was last asked."""
        self._frozen: SeriesTotals | None = None

    def touch(self, now_ns: int) -> None:
        """Say that something is about to change."""
        self.changed = True
        self.idle_since_ns = now_ns

    def enter(self, state: str, wait: str, now_ns: int) -> None:
        """Count a thread in ``state`` from now on; its time passes in ``wait``."""
        self.touch(now_ns)
        self.living += 1
        self.now[state] = self.now.get(state, 0) + 1
        self._count(wait, 1, now_ns)

    def leave(self, state: str, wait: str, now_ns: int) -> None:
        """Count a thread in ``state`` no longer."""
        self.touch(now_ns)
        self.living -= 1
        self.now[state] -= 1
        self._count(wait, -1, now_ns)

    def change(self, state: str, wait: str, to: tuple[str, str], now_ns: int) -> None:
        """Count a thread in another state and wait from now on: the two in ``to``."""
        self.touch(now_ns)
        self.now[state] -= 1
        self.now[to[0]] = self.now.get(to[0], 0) + 1
        if to[1] != wait:
            self._count(wait, -1, now_ns)
            self._count(to[1], 1, now_ns)

    def begin(self, state: str, wait: str, cpu_ns: int, runqueue_ns: int, now_ns: int) -> None:
        """Begin with a thread. Its life so far is in no state, because states count from now on."""
        self.started += 1
        self.enter(state, wait, now_ns)
        self.correct(wait, -(cpu_ns + runqueue_ns))
        self.ran_ns -= cpu_ns
        self.ready_ns -= runqueue_ns

    def end(self, state: str, wait: str, now_ns: int) -> None:
        """End with a thread."""
        self.leave(state, wait, now_ns)
        self.ended += 1

    def add_life(self) -> None:
        """Count a thread that was born and has ended without having been seen."""
        self.started += 1
        self.ended += 1

    def charge(self, cpu_ns: int, system_ns: int) -> None:
        """Charge CPU time, of which ``system_ns`` was spent in the kernel, and which is in no state."""
        self.user_ns += cpu_ns - system_ns
        self.system_ns += system_ns

    def run(self, cpu_ns: int) -> None:
        """Count CPU time that has been charged as time in ``running``."""
        self.ran_ns += cpu_ns

    def gain(
        self,
        wait: str,
        user_ns: int,
        system_ns: int,
        ready_ns: int | None,
        timeslices: int,
        passed: Series | None = None,
    ) -> None:
        """Charge what a thread has used whose time passes in ``wait``. Called for each active thread.

        ``ready_ns``: the time that it was ready to run without a CPU; None: the kernel does not count that.
        ``passed``: the series in which its time has passed meanwhile, if that was another one.
        """
        self.changed = True
        spent_ns = user_ns + system_ns
        if spent_ns:
            self.user_ns += user_ns
            self.system_ns += system_ns
            self.ran_ns += spent_ns
        if ready_ns is not None:
            if self.runqueue_ns is None or self.timeslices is None:
                self.runqueue_ns = self.timeslices = 0
            if timeslices > 0:
                self.timeslices += timeslices
            if ready_ns > 0:
                self.runqueue_ns += ready_ns
                self.ready_ns += ready_ns
                spent_ns += ready_ns
        corrections = self.corrections if passed is None else passed.corrections
        try:
            corrections[wait] += spent_ns
        except KeyError:
            corrections[wait] = spent_ns

    def hold_gil(self, held_ns: int) -> None:
        """Count time that a thread held the GIL; from now on it is known."""
        self.gil_held_ns = (self.gil_held_ns or 0) + held_ns

    def loop_series(self, now_ns: int) -> LoopSeries:
        """Return the totals of its threads' loops, which are about to change."""
        self.touch(now_ns)
        if self.loop is None:
            self.loop = LoopSeries()
        return self.loop

    def expire_tasks(self, now_ns: int, after_ns: int) -> int | None:
        """Move task names that have been idle for too long into ``(other)``; return when the next may be."""
        if self.loop is None:
            return None
        next_ns, moved = self.loop.expire(now_ns, after_ns)
        self.changed = self.changed or moved
        return next_ns

    def _count(self, state: str, by: int, now_ns: int) -> None:
        old = self.states.get(state)
        if old is None:
            self.states[state] = StateTime(by, 0, now_ns)
        else:
            self.states[state] = StateTime(old.threads + by, old.at(now_ns), now_ns)

    def correct(self, state: str, spent_ns: int) -> None:
        """Correct ``state``: this much of the time counted there was spent in something else."""
        self.corrections[state] = self.corrections.get(state, 0) + spent_ns

    def credit(self, state: str, spent_ns: int, now_ns: int) -> None:
        """Count time that a thread has spent in this state of waiting."""
        old = self.states.get(state) or StateTime(0, 0, now_ns)
        self.states[state] = StateTime(old.threads, old.at(now_ns) + spent_ns, now_ns)

    def _apply_corrections(self, now_ns: int, before_ns: int) -> None:
        """Apply the corrections.

        A total that has been shown (at ``before_ns``, last) is never lowered; what cannot be applied now is
        kept for the next poll.
        """
        shown = self._frozen.states if self._frozen is not None else {}
        corrections, self.corrections = self.corrections, {}
        for state, spent_ns in corrections.items():
            old = self.states.get(state) or StateTime(0, 0, now_ns)
            total_ns = old.at(now_ns)
            floor_ns = shown[state].at(before_ns) if state in shown else 0
            taken_ns = min(spent_ns, max(total_ns - floor_ns, 0))
            self.states[state] = StateTime(old.threads, total_ns - taken_ns, now_ns)
            if spent_ns > taken_ns:
                self.corrections[state] = spent_ns - taken_ns

    def count(self, known: Counts, seen: Counts) -> Counts:
        """Add what a thread has counted beyond ``known``; return what is known of it now.

        A field that cannot be read once stays known.
        """
        learnt = list(known)
        for index, (before, value) in enumerate(zip(known, seen, strict=True)):
            if value is None or (before is not None and value < before):
                continue
            self.counts[index] = (self.counts[index] or 0) + value - (before or 0)
            learnt[index] = value
        return tuple(learnt)

    def absorb(self, other: Series, now_ns: int) -> None:
        """Take over the totals of a series in which no thread lives any more."""
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
            self.hold_gil(other.gil_held_ns)
        if other.loop is not None:
            self.loop_series(now_ns).absorb(other.loop, now_ns)
        self.ran_ns += other.ran_ns
        self.ready_ns += other.ready_ns
        for state, time in other.states.items():
            self.credit(state, time.at(now_ns), now_ns)
        for state, spent_ns in other.corrections.items():
            self.correct(state, spent_ns)
        for state in other.now:
            self.now.setdefault(state, 0)

    def totals(self, now_ns: int, before_ns: int) -> SeriesTotals:
        """Return the totals now; the same object while nothing changes. ``before_ns``: when last shown."""
        if self._frozen is None or self.changed:
            self._apply_corrections(now_ns, before_ns)
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
                loop=None if self.loop is None else self.loop.totals(),
            )
        return self._frozen
