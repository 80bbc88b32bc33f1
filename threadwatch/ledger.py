"""One process's books: what each of its threads has been charged with, against the process's clock.

How no CPU time is lost or counted twice: the kernel's process clock counts all threads, the ended ones
too. Each poll charges every living thread with what its own clock has gained, and every thread whose
end was published with its last sum. What the process clock has beyond all that was used by threads
that have ended:

* A thread runs on for a moment when its end has been published: the rest of the interpreter's work,
  and the kernel's. So the threads that have ended of late come first, each with up to
  :data:`~threadwatch.tails.TAIL_NS`.
* The rest was used by threads that nobody saw, or not to their end. It is ``(unattributed)``.

The clock is read before the threads, and Linux books both at the same moments (kernel/sched/cputime.c,
thread_group_cputime(); old kernels had the clock up to a tick ahead), so it is never ahead of threads
that live and have been read. What they use in between lets their sum run ahead; then the sum counts,
until the clock has caught up. Clock and sum are of the process's whole life: what is off in one poll
is made good by the next, and does not add up.

A thread is known by TID and start time, which is ambiguous in two cases. The thread that calls exec
takes over the leader's, and all others end. And a TID may be used again within a tick. Then what the
kernel counts seems to go back, or forward by more than the process has used, or the publisher has
told the end.

A thread is started under the name that it is first seen by and ended under its last: where threads are
renamed, started less ended is the number of living threads for the group, not for each name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from threadwatch.entry import Entry
from threadwatch.model import UNATTRIBUTED, ProcessKey, ThreadView
from threadwatch.samples import (
    NS_PER_TICK,
    STATES,
    EndedThread,
    Identity,
    ProcessSample,
    SlotKey,
    ThreadSample,
    ThreadTimes,
)
from threadwatch.series import Group, Series
from threadwatch.shown import Shown, newborn
from threadwatch.tails import Tails, shares

_AHEAD_NS = 1_000_000_000
"""How far published ends can take the sum ahead of the process clock. What is beyond, no poll could
have taken: a target can publish what it likes."""
_UNREASONED = frozenset(STATES.values())
"""States that the kernel's letter says without a sample."""
_SKEW_NS = 20_000_000
"""CPU time that a thread uses at most while a poll reads its process, to tell an exec by."""


class Ledger:
    """The books of one process. Charge it with samples in order of time, and close it at its end."""

    def __init__(self, group: Group, key: ProcessKey) -> None:
        self.group = group
        self._key = key
        self._entries: dict[Identity, Entry] = {}
        self._by_slot: dict[SlotKey, Entry] = {}
        self._settled: dict[SlotKey, Identity | None] = {}
        """Slots without an entry that need no more charging, and whose they are if the kernel still
        shows it: of threads whose whole lives were charged at once, or that have another slot now."""
        self._tails = Tails()
        self._clock_ns = 0
        self._charged_ns = 0
        self._grouped_ns = 0
        """What the group's CPU time has of this process: the larger of the two above."""
        self._user_ticks = 0
        self._system_ticks = 0
        self._system_share = 0.0
        self._shown: dict[Identity, Shown] = {}
        self._newborn: list[ThreadSample] = []
        """Threads whose names are about to come: they are shown, and charged once they have one."""

    @property
    def cpu_ns(self) -> int:
        """What has been charged for the process so far."""
        return self._grouped_ns

    @property
    def entries(self) -> Mapping[Identity, Entry]:
        """Its living threads."""
        return self._entries

    def charge(self, sample: ProcessSample) -> None:
        """Charge what has been used since the sample before."""
        now_ns = sample.time_ns
        self.group.touched = True
        self._learn_share(sample)
        self._clock_ns = max(self._clock_ns, sample.clock_ns)
        waits = sample.waits or {}
        for identity, seen in waits.items():
            # first of all: until now, their time has passed where they were, not where they are
            entry = self._entries.get(identity)
            if entry is not None:
                entry.credit(seen, now_ns, has_gil=sample.has_gil)
        living = sample.living
        gone: set[Identity] = set()
        if living is not None:
            gone = self._follow_exec(sample, self._entries.keys() - living)
        unmet = self._charge_ends(sample.ended, now_ns)
        allowance_ns = sample.unread_ns
        self._newborn.clear()
        for thread in sample.threads:
            identity = (thread.tid, thread.start_ticks)
            if thread.provisional and identity not in self._entries:
                allowance_ns += thread.cpu_ns
                if not thread.shy:
                    self._newborn.append(thread)
                continue
            if thread.slot in self._settled:
                self._settled[thread.slot] = identity  # the kernel is only slow to let it go
                continue
            if not thread.exact:
                allowance_ns += 2 * NS_PER_TICK  # user and system time, each cut off to a tick
            self._charge_thread(identity, thread, now_ns, sampled=sample.waits is not None)
        self._charge_times(sample.times)
        for identity, seen in waits.items():
            entry = self._entries.get(identity)
            if entry is not None:
                entry.see(seen, now_ns, has_gil=sample.has_gil)
        if living is not None and self._settled:
            self._settled = {
                slot: identity for slot, identity in self._settled.items() if identity in living
            }
        self._charge_lives(self._charge_ends(unmet, now_ns), gone, now_ns)
        for identity in gone:
            self._end(identity, now_ns)
        self._charge_rest(allowance_ns, now_ns)
        self._tails.carry(sample.unread_ns)

    def views(self, elapsed_ns: int | None) -> tuple[ThreadView, ...]:
        """The threads as they are now, in order of their TIDs.

        ``elapsed_ns`` is the time in which they used what they have since this was last asked; None: nobody
        knows, and so no CPU ratios either.
        """
        shown, self._shown = self._shown, {}
        views = []
        for identity, entry in sorted(self._entries.items()):
            one = Shown.of(entry, shown.get(identity), elapsed_ns)
            self._shown[identity] = one
            views.append(one.view)
        if self._newborn:
            views += [newborn(sample, self.group.fold(sample.name)) for sample in self._newborn]
            views.sort(key=lambda view: view.tid)
        return tuple(views)

    def move(self, group: Group, now_ns: int) -> None:
        """The process belongs to another group from now on; what was charged stays where it is.

        So does what its clock has in the old group and some thread is yet to be charged with (see
        :attr:`ProcessSample.unread_ns`), though that will be in the new one.
        """
        self.group.touched = group.touched = True
        self.group = group
        for entry in self._entries.values():
            self._place(entry, entry.sample.name, now_ns)

    def close(self, ended: tuple[EndedThread, ...], now_ns: int) -> None:
        """The process has ended, and these threads with it, as far as their publisher could tell.

        What the others have used since the last sample is not known.
        """
        self.group.touched = True
        gone = set(self._entries)
        self._charge_lives(self._charge_ends(ended, now_ns), gone, now_ns)
        for identity in gone:
            self._end(identity, now_ns)
        self._charge_rest(0, now_ns)

    def _learn_share(self, sample: ProcessSample) -> None:
        """Which part of its CPU time the process spends in the kernel, of late."""
        user = sample.user_ticks - self._user_ticks
        system = sample.system_ticks - self._system_ticks
        if user + system > 0:
            self._system_share = min(max(system / (user + system), 0.0), 1.0)
        self._user_ticks, self._system_ticks = sample.user_ticks, sample.system_ticks

    def _charge_thread(
        self, identity: Identity, thread: ThreadSample, now_ns: int, *, sampled: bool
    ) -> None:
        state = STATES.get(thread.state, "other")
        entry = self._entries.get(identity)
        if entry is not None and (
            not thread.can_be(entry.sample) or (entry.ended and thread.slot != entry.sample.slot)
        ):
            self._end(identity, now_ns)  # another one, born in the same tick
            entry = None
        if entry is None:
            key, series = self.group.place(thread.name, self._key, thread.tid, now_ns)
            wait = "sleeping" if state == "running" else state
            entry = self._entries[identity] = Entry(key, series, state, wait, thread)
            self._charged_ns += entry.gain(thread, now_ns)
            entry.begin(now_ns)
        else:
            before = entry.series
            if thread.name != entry.sample.name:
                self._place(entry, thread.name, now_ns)
            slot = entry.sample.slot
            if slot is not None and slot != thread.slot:
                # the publisher has begun anew with this thread, and may call that an end
                self._by_slot.pop(slot, None)
                self._settled[slot] = identity
            self._charged_ns += entry.gain(thread, now_ns, before)
            if state == "running" and entry.waited_ns > entry.gained_ns:
                state = "runnable"
            if state != "sleeping" or not sampled or entry.wait in _UNREASONED:
                entry.change(state, now_ns)
            elif entry.state != entry.wait:
                entry.change(entry.wait, now_ns)
        if thread.slot is not None:
            self._by_slot[thread.slot] = entry

    def _charge_times(self, times: Iterable[ThreadTimes]) -> None:
        """Charge threads of which nothing but the clocks has been read.

        As :meth:`threadwatch.entry.Entry.gain` does, in one piece: it runs for each active thread.
        """
        entries = self._entries
        charged_ns = 0
        for thread in times:
            entry = entries.get(thread.identity)
            if entry is None:  # its end has been charged, and the kernel is only slow to let it go
                continue
            series = entry.series
            series.changed = True
            spent_ns = 0
            gained_ns = thread.cpu_ns - entry.user_ns - entry.system_ns
            if gained_ns > 0:
                system_ns = int(gained_ns * entry.system_share)
                user_ns = gained_ns - system_ns
                entry.system_ns += system_ns
                series.system_ns += system_ns
                entry.user_ns += user_ns
                series.user_ns += user_ns
                series.ran_ns += gained_ns
                charged_ns += gained_ns
                spent_ns = gained_ns
            entry.gained_ns = gained_ns
            if thread.runqueue_ns is not None and thread.timeslices is not None:
                spent_ns += entry.queue(thread.runqueue_ns, thread.timeslices)
            try:
                series.owed[entry.wait] += spent_ns
            except KeyError:
                series.owed[entry.wait] = spent_ns
        self._charged_ns += charged_ns

    def _place(self, entry: Entry, name: str, now_ns: int) -> None:
        """Charge the entry under ``name`` from now on."""
        key, series = self.group.place(name, self._key, entry.sample.tid, now_ns)
        entry.place(key, series, now_ns)

    def _charge_ends(self, ended: Iterable[EndedThread], now_ns: int) -> list[EndedThread]:
        """Charge the threads that are known with their last sums; gives the ends of the others.

        A thread lives on for as long as the kernel shows it.
        """
        unmet = []
        for end in ended:
            entry = self._by_slot.get(end.slot)
            if entry is None:
                unmet.append(end)
            else:
                self._charge_end(entry, end, now_ns)
        return unmet

    def _charge_end(self, entry: Entry, end: EndedThread, now_ns: int) -> None:
        before = entry.series
        if end.name != entry.sample.name:
            self._place(entry, end.name, now_ns)
        if end.cpu_ns is not None:
            gained_ns = self._credible(end.cpu_ns - entry.user_ns - entry.system_ns)
            entry.series.touch(now_ns)
            entry.charge(gained_ns, round(gained_ns * self._system_share))
            before.owe(entry.wait, gained_ns)
            entry.ended = True
            self._charged_ns += gained_ns

    def _charge_lives(self, ended: list[EndedThread], gone: set[Identity], now_ns: int) -> None:
        """Charge whole lives that nobody saw."""
        if not ended:
            return
        nameless = {
            entry.sample.tid: entry
            for entry in map(self._entries.__getitem__, gone)
            if entry.sample.slot is None
        }
        for end in ended:
            if end.slot in self._settled:
                continue
            # somebody did see it, if before its table was found
            entry = nameless.pop(end.tid, None)
            if entry is not None:
                self._charge_end(entry, end, now_ns)
                continue
            self._settled[end.slot] = None
            key, series = self.group.place(end.name, self._key, end.tid, now_ns)
            series.touch(now_ns)
            series.started += 1
            series.ended += 1
            if end.cpu_ns is not None:
                self._tails.ended[key] += 1
                cpu_ns = self._credible(end.cpu_ns)
                series.ran_ns += cpu_ns
                self._charge_cpu(series, cpu_ns, now_ns)

    def _end(self, identity: Identity, now_ns: int) -> None:
        """The kernel does not show the thread any more."""
        entry = self._entries.pop(identity)
        if entry.sample.slot is not None:
            self._by_slot.pop(entry.sample.slot, None)
        entry.end(now_ns)
        self._tails.ended[entry.key] += 1

    def _credible(self, cpu_ns: int) -> int:
        """So much of what a publisher says as can be true."""
        return max(min(cpu_ns, self._clock_ns - self._charged_ns + _AHEAD_NS), 0)

    def _charge_rest(self, allowance_ns: int, now_ns: int) -> None:
        """Charge what the clock has beyond the threads, but for what they may be charged with yet."""
        rest_ns = self._clock_ns - self._charged_ns - allowance_ns
        if rest_ns > 0:
            claims = self._tails.claims()
            claims = Counter({key: n for key, n in claims.items() if key in self.group.series})
            for key, share_ns in shares(claims, rest_ns).items():
                self._charge_cpu(self.group.series[key], share_ns, now_ns)
                rest_ns -= share_ns
            if rest_ns:
                self._charge_cpu(self.group.own(UNATTRIBUTED, self._key, now_ns), rest_ns, now_ns)
        grouped_ns = max(self._clock_ns, self._charged_ns)
        self.group.cpu_ns += grouped_ns - self._grouped_ns
        self._grouped_ns = grouped_ns

    def _charge_cpu(self, series: Series, cpu_ns: int, now_ns: int) -> None:
        """Charge CPU time of which only the sum is known, split as the process splits its own."""
        series.touch(now_ns)
        system_ns = round(cpu_ns * self._system_share)
        series.system_ns += system_ns
        series.user_ns += cpu_ns - system_ns
        self._charged_ns += cpu_ns

    def _follow_exec(self, sample: ProcessSample, gone: set[Identity]) -> set[Identity]:
        """Find out whether a thread that has gone is the leader now; gives who has really gone.

        What exec does is in fs/exec.c, de_thread().
        """
        identity = (self._key.pid, self._key.start_ticks)
        leader = self._entries.get(identity)
        thread = next((t for t in sample.threads if (t.tid, t.start_ticks) == identity), None)
        if not gone or leader is None or thread is None or len(gone) < len(self._entries) - 1:
            return gone
        room_ns = self._clock_ns - self._charged_ns + _SKEW_NS
        certain = not thread.can_be(leader.sample)
        if not certain and thread.cpu_ns - leader.sample.cpu_ns <= room_ns:
            return gone
        callers = [
            who
            for who, before in ((who, self._entries[who].sample) for who in gone)
            if thread.can_be(before) and (certain or thread.cpu_ns - before.cpu_ns <= room_ns)
        ]
        if not callers:
            return gone
        caller = max(callers, key=lambda who: self._entries[who].sample.cpu_ns)
        self._end(identity, sample.time_ns)
        entry = self._entries[identity] = self._entries.pop(caller)
        entry.sample = entry.sample._replace(tid=thread.tid, start_ticks=thread.start_ticks)
        self._place(entry, entry.sample.name, sample.time_ns)
        return gone - {caller}
