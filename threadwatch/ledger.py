"""One process's books: what each of its threads has been charged with, against the process's clock.

How no CPU time is lost or counted twice: the kernel's process clock counts all threads, the ended ones
too. Each poll charges every living thread with what its own clock has gained, and every thread whose
end was published with its last sum. What the process clock has beyond all that belongs to threads
that nobody saw; it goes to ``(unattributed)``. Two things keep that from happening too early. The
process clock runs on while the scheduler books a running thread only at its next tick, so a tick
for each running thread is allowed for. And the clock is read before the threads, so what they use in
between makes the difference smaller, never larger. The difference is that of two sums over the
process's whole life: an allowance delays, it does not leak.
"""

from __future__ import annotations

from dataclasses import dataclass

from threadwatch.model import UNATTRIBUTED, ProcessKey, ThreadView
from threadwatch.samples import NS_PER_TICK, EndedThread, ProcessSample, SlotKey, ThreadSample
from threadwatch.series import Group, Series, plus

_STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "disk",
    "T": "stopped",
    "t": "stopped",
    "Z": "zombie",
    "X": "zombie",
    "x": "zombie",
}
"""The kernel's letters (proc_pid_stat(5)) in the project's words; every other is ``other``."""

_TICK_NS = 10_000_000
"""The longest scheduler tick: CONFIG_HZ is 100 to 1000."""


@dataclass(slots=True)
class _Entry:
    """A living thread: where it is charged, and up to where it has been."""

    series: Series
    label: str
    state: str
    sample: ThreadSample
    user_ns: int = 0
    system_ns: int = 0
    ended: EndedThread | None = None
    """Its publisher has seen it end, but the kernel still shows it."""


class Ledger:
    """The books of one process. Charge it with samples in order of time, and close it at its end."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self._entries: dict[tuple[int, int], _Entry] = {}
        self._by_slot: dict[SlotKey, _Entry] = {}
        self._settled: set[SlotKey] = set()
        """Threads that were born and ended between two polls, the last two."""
        self._clock_ns = 0
        self._attributed_ns = 0
        self._unattributed_ns = 0
        self._user_ticks = 0
        self._system_ticks = 0
        self._system_share = 0.0

    def charge(self, sample: ProcessSample, elapsed_ns: int | None) -> tuple[ThreadView, ...]:
        """Charge what has been used since the sample before; the threads as they are now.

        ``elapsed_ns`` is the time in which it was used: since the poll before; None at first.
        """
        now_ns = sample.time_ns
        self._learn_share(sample)
        self._charge_clock(sample.clock_ns)
        allowance = 0
        views = []
        alive = set()
        for thread in sample.threads:
            if thread.provisional and (thread.tid, thread.start_ticks) not in self._entries:
                allowance += thread.cpu_ns
                continue
            if thread.slot in self._settled:
                continue  # its whole life is charged already: the kernel is only slow to let it go
            identity = (thread.tid, thread.start_ticks)
            alive.add(identity)
            if thread.state == "R":
                allowance += _TICK_NS
            if not thread.exact:
                allowance += 2 * NS_PER_TICK  # user and system time, each cut off to a tick
            views.append(self._charge_thread(identity, thread, sample, elapsed_ns))
        self._note_ended(sample)
        if sample.resting is not None:
            for identity in self._entries.keys() - alive - sample.resting:
                self._end(identity, now_ns)
        excess = self._clock_ns - self._attributed_ns - self._unattributed_ns - allowance
        if excess > 0:
            self._unattributed_ns += excess
            series = self.group.own(UNATTRIBUTED, sample.key, now_ns)
            self._charge_cpu(series, excess, now_ns)
        return tuple(views)

    def move(self, group: Group, key: ProcessKey, now_ns: int) -> None:
        """The process belongs to another group from now on; what was charged stays where it is."""
        self.group = group
        for entry in self._entries.values():
            self._place(entry, entry.sample.name, key, now_ns)

    def close(self, ended: tuple[EndedThread, ...], now_ns: int) -> None:
        """The process has ended, and these threads with it, as far as their publisher could tell."""
        for end in ended:
            entry = self._by_slot.get(end.slot)
            if entry is not None:
                entry.ended = end
        for identity in list(self._entries):
            self._end(identity, now_ns)
        # its last moments were in no clock that we have read, but the threads' own count is certain
        self._charge_clock(max(self._clock_ns, self._attributed_ns + self._unattributed_ns))

    def _charge_clock(self, clock_ns: int) -> None:
        # never backwards: the thread clocks of a poll may be ahead of the process clock of the next
        if clock_ns > self._clock_ns:
            self.group.cpu_ns += clock_ns - self._clock_ns
            self._clock_ns = clock_ns

    def _learn_share(self, sample: ProcessSample) -> None:
        """Which part of its CPU time the process spends in the kernel, of late."""
        user = sample.user_ticks - self._user_ticks
        system = sample.system_ticks - self._system_ticks
        if user + system > 0:
            self._system_share = min(max(system / (user + system), 0.0), 1.0)
        self._user_ticks, self._system_ticks = sample.user_ticks, sample.system_ticks

    def _charge_cpu(self, series: Series, cpu_ns: int, now_ns: int) -> None:
        """Charge CPU time of which only the sum is known, split as the process splits its own."""
        series.touch(now_ns)
        system_ns = round(cpu_ns * self._system_share)
        series.system_ns += system_ns
        series.user_ns += cpu_ns - system_ns

    def _charge_thread(
        self,
        identity: tuple[int, int],
        thread: ThreadSample,
        sample: ProcessSample,
        elapsed_ns: int | None,
    ) -> ThreadView:
        now_ns = sample.time_ns
        state = _STATES.get(thread.state, "other")
        entry = self._entries.get(identity)
        first = entry is None
        if entry is None:
            label, series = self.group.place(thread.name, sample.key, thread.tid, now_ns)
            entry = self._entries[identity] = _Entry(series, label, state, thread)
            series.started += 1
            series.enter(state, now_ns)
            gained_ns = self._charge_gain(entry, None, thread, now_ns)
        else:
            if thread.name != entry.sample.name:
                self._place(entry, thread.name, sample.key, now_ns)
            if state != entry.state:
                entry.series.leave(entry.state, now_ns)
                entry.series.enter(state, now_ns)
                entry.state = state
            gained_ns = self._charge_gain(entry, entry.sample, thread, now_ns)
            if thread.slot != entry.sample.slot and entry.sample.slot is not None:
                self._by_slot.pop(entry.sample.slot, None)
            entry.sample = thread
        if thread.slot is not None:
            self._by_slot[thread.slot] = entry
        return ThreadView(
            tid=thread.tid,
            start_ticks=thread.start_ticks,
            name=thread.name,
            source=thread.source,
            thread=entry.label,
            comm=thread.comm,
            state=state,
            user_ns=entry.user_ns,
            system_ns=entry.system_ns,
            cpu_ratio=None if elapsed_ns is None or first else gained_ns / max(elapsed_ns, 1),
            last_cpu=thread.last_cpu,
            name_cut=thread.name_cut,
        )

    def _place(self, entry: _Entry, name: str, key: ProcessKey, now_ns: int) -> None:
        """Charge the entry under ``name`` from now on."""
        label, series = self.group.place(name, key, entry.sample.tid, now_ns)
        entry.series.leave(entry.state, now_ns)
        series.enter(entry.state, now_ns)
        entry.label, entry.series = label, series

    def _charge_gain(
        self, entry: _Entry, before: ThreadSample | None, thread: ThreadSample, now_ns: int
    ) -> int:
        """Charge what the thread has gained since ``before``, or in its life; gives the CPU ns."""
        gained_ns = thread.cpu_ns - entry.user_ns - entry.system_ns
        if before is not None and gained_ns <= 0 and thread.timeslices == before.timeslices:
            return 0  # it has not run, so nothing else has changed either
        series = entry.series
        series.touch(now_ns)
        if gained_ns > 0:
            # the kernel splits the exact sum by ticks that it sampled; each part may only grow
            ticks = thread.user_ticks + thread.system_ticks
            share = thread.system_ticks / ticks if ticks else 0.0
            system_ns = round(thread.cpu_ns * share) - entry.system_ns
            system_ns = min(max(system_ns, 0), gained_ns)
            self._charge_split(entry, gained_ns - system_ns, system_ns)
        series.minor_faults += thread.minor_faults - (before.minor_faults if before else 0)
        series.major_faults += thread.major_faults - (before.major_faults if before else 0)
        for name in _OPTIONAL:
            value = getattr(thread, name)
            if value is not None:
                known = getattr(before, name, None) or 0
                setattr(series, name, plus(getattr(series, name), max(value - known, 0)))
        return max(gained_ns, 0)

    def _charge_split(self, entry: _Entry, user_ns: int, system_ns: int) -> None:
        entry.user_ns += user_ns
        entry.system_ns += system_ns
        entry.series.user_ns += user_ns
        entry.series.system_ns += system_ns
        self._attributed_ns += user_ns + system_ns

    def _note_ended(self, sample: ProcessSample) -> None:
        """Take down the ends that the publisher tells; charge whole lives that nobody saw."""
        now_ns = sample.time_ns
        self._settled.clear()
        for end in sample.ended:
            entry = self._by_slot.get(end.slot)
            if entry is not None:
                entry.ended = end
                continue
            self._settled.add(end.slot)
            _, series = self.group.place(end.name, sample.key, end.tid, now_ns)
            series.started += 1
            series.ended += 1
            cpu_ns = end.cpu_ns or 0
            self._attributed_ns += cpu_ns
            self._charge_cpu(series, cpu_ns, now_ns)

    def _end(self, identity: tuple[int, int], now_ns: int) -> None:
        """The kernel does not show the thread any more."""
        entry = self._entries.pop(identity)
        if entry.sample.slot is not None:
            self._by_slot.pop(entry.sample.slot, None)
        entry.series.leave(entry.state, now_ns)
        entry.series.ended += 1
        if entry.ended is not None and entry.ended.cpu_ns is not None:
            gained_ns = entry.ended.cpu_ns - entry.user_ns - entry.system_ns
            if gained_ns > 0:
                system_ns = round(gained_ns * self._system_share)
                self._charge_split(entry, gained_ns - system_ns, system_ns)


_OPTIONAL = (
    "runqueue_ns",
    "timeslices",
    "voluntary_switches",
    "involuntary_switches",
    "read_bytes",
    "write_bytes",
)
"""Fields that samples and series share, and that can be unknown."""
