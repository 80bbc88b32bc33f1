"""One process's books: what each of its threads has been charged with, against the process's clock.

How no CPU time is lost or counted twice: the kernel's process clock counts all threads, the ended ones
too. Each poll charges every living thread with what its own clock has gained. What the process clock has
beyond all that was used by threads that have ended:

* First come those whose end was published, with what their last sums have beyond what they have been
  charged with.
* A thread runs on for a moment when its end has been published: the rest of the interpreter's work,
  and the kernel's. So the threads that have ended of late come next
  (:mod:`threadwatch.accounting.exit_tails`).
* The rest was used by threads that nobody saw, or not to their end. It is ``(unattributed)``.

So what a publisher says only divides what the kernel has counted: it can add nothing.

The clock is read before the threads, and Linux books both at the same moments (kernel/sched/cputime.c,
thread_group_cputime(); old kernels had the clock up to a tick ahead), so it is never ahead of threads
that live and have been read. What they use in between lets their sum run ahead; then the sum counts,
until the clock has caught up. What ended threads have used in between is theirs in the next poll. Clock
and sum are of the process's whole life: what is off in one poll is made good by the next, and does not
add up.

A thread of the kernel has one life, whatever Python calls it. A thread of C that calls Python now and
then is another one to Python each time, with an end each time: those are told of a thread that lives on,
or of one that has ended once.

A thread is known by TID and start time, which is ambiguous in two cases. The thread that calls exec
takes over the leader's, and all others end. And a TID may be used again within a tick. Then what the
kernel counts seems to go back, or forward by more than the process has used, or the publisher has
told of an end in that tick.

A thread is started under the name that it is first seen by and ended under its last: where threads are
renamed, started less ended is the number of living threads for the group, not for each name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

from threadwatch.accounting.exit_tails import ExitTails, shares
from threadwatch.accounting.series import Group, Series
from threadwatch.accounting.thread_account import ThreadAccount
from threadwatch.accounting.thread_views import ThreadViewMaker, newborn
from threadwatch.model.readings import (
    NS_PER_TICK,
    EndedThread,
    Identity,
    ProcessReading,
    ThreadReading,
    ThreadTimes,
)
from threadwatch.model.states import OF_LETTER
from threadwatch.model.view import UNATTRIBUTED, ProcessKey, SeriesKey, ThreadView

_LAST_NS = 1_000_000_000
"""CPU time beyond the last reading of its clock that a process's last ends are believed."""
_UNREASONED = frozenset(OF_LETTER.values())
"""States that the kernel's letter says without a sample."""
_SKEW_NS = 20_000_000
"""CPU time that a thread uses at most while a poll reads its process."""
_BRIEF_NS = 2 * NS_PER_TICK
"""CPU time of a thread that can have been born and ended within one tick, and a little more."""


@dataclass(frozen=True, slots=True)
class _Due:
    """CPU time that an ended thread has told of, and that is yet to be charged."""

    key: SeriesKey
    series: Series
    cpu_ns: int
    passed: tuple[Series, str] | None = None
    """Where the thread's time has passed meanwhile, if it was known."""


class Ledger:
    """The books of one process. Charge it with samples in order of time, and close it at its end."""

    def __init__(self, group: Group, key: ProcessKey) -> None:
        self.group = group
        self._key = key
        self._entries: dict[Identity, ThreadAccount] = {}
        self._late: set[Identity] = set()
        """Threads that have gone before all that their publisher tells could be read."""
        self._dues: list[_Due] = []
        self._tails = ExitTails()
        self._clock_ns = 0
        self._charged_ns = 0
        self._grouped_ns = 0
        """What the group's CPU time has of this process: the larger of the two above."""
        self._user_ticks = 0
        self._system_ticks = 0
        self._system_share = 0.0
        self._shown: dict[Identity, ThreadViewMaker] = {}
        self._newborn: list[ThreadReading] = []
        """Threads whose names are about to come: they are shown, and charged once they have one."""

    @property
    def cpu_ns(self) -> int:
        """What has been charged for the process so far."""
        return self._grouped_ns

    @property
    def entries(self) -> Mapping[Identity, ThreadAccount]:
        """Its living threads."""
        return self._entries

    def charge(self, sample: ProcessReading) -> None:
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
        unmet = self._hear(sample.ended, gone)
        allowance_ns = sample.unread_ns
        self._newborn.clear()
        self._forgive(sample)
        for thread in sample.threads:
            identity = (thread.tid, thread.start_ticks)
            if thread.name_pending and identity not in self._entries:
                allowance_ns += thread.cpu_ns
                if not thread.too_young_to_show:
                    self._newborn.append(thread)
                continue
            if not thread.exact:
                allowance_ns += 2 * NS_PER_TICK  # user and system time, each cut off to a tick
            self._charge_thread(identity, thread, now_ns, sampled=sample.waits is not None)
        self._charge_times(sample.times)
        for identity, seen in waits.items():
            entry = self._entries.get(identity)
            if entry is not None:
                entry.see(seen, now_ns, has_gil=sample.has_gil)
        self._add_lives(self._hear(unmet, gone), now_ns)
        for identity in gone:
            self._end(identity, now_ns)
        self._late = self._late | gone if sample.behind else set()
        self._charge_rest(allowance_ns, now_ns)
        self._tails.carry(sample.unread_ns, allowance_ns)

    def views(self, elapsed_ns: int | None) -> tuple[ThreadView, ...]:
        """The threads as they are now, in order of their TIDs.

        ``elapsed_ns`` is the time in which they used what they have since this was last asked; None: nobody
        knows, and so no CPU ratios either.
        """
        shown, self._shown = self._shown, {}
        views = []
        for identity, entry in sorted(self._entries.items()):
            one = ThreadViewMaker.of(entry, shown.get(identity), elapsed_ns)
            self._shown[identity] = one
            views.append(one.view)
        if self._newborn:
            views += [newborn(sample, self.group.fold(sample.name)) for sample in self._newborn]
            views.sort(key=lambda view: view.tid)
        return tuple(views)

    def move(self, group: Group, now_ns: int) -> None:
        """The process belongs to another group from now on; what was charged stays where it is.

        So does what its clock has in the old group and some thread is yet to be charged with (see
        :attr:`ProcessReading.unread_ns`), though that will be in the new one.
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
        self._add_lives(self._hear(ended, gone), now_ns)
        for identity in gone:
            self._end(identity, now_ns)
        self._charge_told(self._clock_ns - self._charged_ns + _LAST_NS, now_ns)
        self._charge_rest(0, now_ns)

    def _learn_share(self, sample: ProcessReading) -> None:
        """Which part of its CPU time the process spends in the kernel, of late."""
        user = sample.user_ticks - self._user_ticks
        system = sample.system_ticks - self._system_ticks
        if user + system > 0:
            self._system_share = min(max(system / (user + system), 0.0), 1.0)
        self._user_ticks, self._system_ticks = sample.user_ticks, sample.system_ticks

    def _charge_thread(
        self, identity: Identity, thread: ThreadReading, now_ns: int, *, sampled: bool
    ) -> None:
        state = OF_LETTER.get(thread.state, "other")
        entry = self._entries.get(identity)
        if entry is not None and not thread.can_be(entry.sample):
            self._end(identity, now_ns)  # another one, born in the same tick
            entry = None
        elif entry is not None and _has_ended(entry, thread):
            self._end(identity, now_ns)  # another one as well, but only its publisher says so
            self._succeed(identity, thread, state, now_ns)
            return
        if entry is None:
            entry = self._begin(identity, thread, state, now_ns)
            self._charged_ns += entry.gain(thread, now_ns)
            entry.begin(now_ns)
        else:
            before = entry.series
            if thread.name != entry.sample.name:
                self._place(entry, thread.name, now_ns)
            self._charged_ns += entry.gain(thread, now_ns, before)
            if state == "running" and entry.waited_ns > entry.gained_ns:
                state = "runnable"
            if state != "sleeping" or not sampled or entry.wait in _UNREASONED:
                entry.change(state, now_ns)
            elif entry.state != entry.wait:
                entry.change(entry.wait, now_ns)

    def _begin(
        self, identity: Identity, thread: ThreadReading, state: str, now_ns: int
    ) -> ThreadAccount:
        key, series = self.group.place(thread.name, self._key, thread.tid, now_ns)
        wait = "sleeping" if state == "running" else state
        entry = self._entries[identity] = ThreadAccount(key, series, state, wait, thread)
        return entry

    def _succeed(self, identity: Identity, thread: ThreadReading, state: str, now_ns: int) -> None:
        """Begin with a thread that may be the one before: charge what the clock has room for."""
        entry = self._begin(identity, thread, state, now_ns)
        entry.gain(thread._replace(cpu_ns=0), now_ns)
        entry.begin(now_ns)
        entry.user_ns, entry.sample = thread.cpu_ns, thread
        self._dues.append(_Due(entry.key, entry.series, thread.cpu_ns))

    def _forgive(self, sample: ProcessReading) -> None:
        """Do not charge threads as long as more has been charged than the clock has, if that ever is."""
        excess_ns = self._charged_ns - self._clock_ns - _SKEW_NS
        if excess_ns <= 0:
            return
        times = ((t.identity, t.cpu_ns) for t in sample.times)
        for identity, cpu_ns in chain(
            (((t.tid, t.start_ticks), t.cpu_ns) for t in sample.threads), times
        ):
            entry = self._entries.get(identity)
            if entry is not None:
                forgiven_ns = min(max(cpu_ns - entry.user_ns - entry.system_ns, 0), excess_ns)
                entry.user_ns += forgiven_ns
                excess_ns -= forgiven_ns

    def _charge_times(self, times: Iterable[ThreadTimes]) -> None:
        """Charge threads of which nothing but the clocks has been read.

        As :meth:`.ThreadAccount.gain` does, in one piece: it runs for each active thread.
        """
        entries = self._entries
        charged_ns = 0
        for thread in times:
            entry = entries.get(thread.identity)
            if entry is None:  # it is not charged before it has a name
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

    def _place(self, entry: ThreadAccount, name: str, now_ns: int) -> None:
        """Charge the entry under ``name`` from now on."""
        key, series = self.group.place(name, self._key, entry.sample.tid, now_ns)
        entry.place(key, series, now_ns)

    def _hear(self, ended: Iterable[EndedThread], gone: set[Identity]) -> list[EndedThread]:
        """Let known threads keep what is told of their ends; gives the ends of others.

        A thread lives on for as long as the kernel shows it.
        """
        unmet = []
        for end in ended:
            entry = self._entry_of(end, gone)
            if entry is None:
                unmet.append(end)
            elif end.cpu_ns is not None or entry.told is None:
                entry.told = end
        return unmet

    def _entry_of(self, end: EndedThread, gone: set[Identity]) -> ThreadAccount | None:
        """The thread that an end is told of, if it is known."""
        entry = self._entries.get(end.thread) if end.thread is not None else None
        if entry is None or entry.sample.slot == end.slot:
            return entry
        if end.early and entry.sample.slot is not None:
            return None  # of one that had the TID before, in the same tick
        told = entry.told
        if told is not None and not told.visitor and (told.early or end.thread in gone):
            return None  # of one that had the TID afterwards
        return entry

    def _add_lives(self, ended: list[EndedThread], now_ns: int) -> None:
        """Count whole lives that nobody saw."""
        visits: dict[int, int] = {}
        for end in ended:
            if end.thread in self._late:
                continue  # its end has been counted
            key, series = self.group.place(end.name, self._key, end.tid, now_ns)
            series.touch(now_ns)
            cpu_ns = end.cpu_ns or 0
            charged_ns = visits.get(end.tid) if end.visitor else None
            if charged_ns is None or 0 < cpu_ns < charged_ns:
                charged_ns = 0
                series.started += 1
                series.ended += 1
                if end.cpu_ns is not None:
                    self._tails.add(key, end)
            if end.visitor:
                visits[end.tid] = max(cpu_ns, charged_ns)
            if cpu_ns > charged_ns:
                self._dues.append(_Due(key, series, cpu_ns - charged_ns))

    def _end(self, identity: Identity, now_ns: int) -> None:
        """The kernel does not show the thread any more."""
        entry = self._entries.pop(identity)
        told, passed = entry.told, (entry.series, entry.wait)
        if told is not None and told.name != entry.sample.name:
            self._place(entry, told.name, now_ns)
        entry.end(now_ns)
        self._tails.add(entry.key, told)
        if told is not None and told.cpu_ns is not None:
            due_ns = told.cpu_ns - entry.user_ns - entry.system_ns
            if due_ns > 0:
                self._dues.append(_Due(entry.key, entry.series, due_ns, passed))

    def _charge_told(self, room_ns: int, now_ns: int) -> None:
        """Charge what ended threads have told of, as far as there is room.

        The rest may be in the next clock.
        """
        room_ns = max(room_ns, 0)
        paid = self._charge_claims(self._tails.owed, room_ns, now_ns)
        self._tails.owed -= paid
        room_ns -= paid.total()
        dues, self._dues = self._dues, []
        total_ns = sum(due.cpu_ns for due in dues)
        for due in dues:
            paid_ns = due.cpu_ns if total_ns <= room_ns else due.cpu_ns * room_ns // total_ns
            self._charge_cpu(due.series, paid_ns, now_ns)
            due.series.ran_ns += paid_ns
            if due.passed is not None:
                series, wait = due.passed
                series.owe(wait, paid_ns)
            if paid_ns < due.cpu_ns:
                self._tails.owe(due.key, due.cpu_ns - paid_ns)

    def _charge_rest(self, allowance_ns: int, now_ns: int) -> None:
        """Charge what the clock has beyond the threads, but for what they may be charged with yet."""
        self._charge_told(self._clock_ns - self._charged_ns - allowance_ns, now_ns)
        rest_ns = self._clock_ns - self._charged_ns - allowance_ns
        if rest_ns > 0:
            rest_ns -= self._charge_claims(self._tails.claims(), rest_ns, now_ns).total()
            if rest_ns:
                self._charge_cpu(self.group.own(UNATTRIBUTED, self._key, now_ns), rest_ns, now_ns)
        grouped_ns = max(self._clock_ns, self._charged_ns)
        self.group.cpu_ns += grouped_ns - self._grouped_ns
        self._grouped_ns = grouped_ns

    def _charge_claims(
        self, claims: Counter[SeriesKey], most_ns: int, now_ns: int
    ) -> Counter[SeriesKey]:
        """Charge claims of ended threads, up to ``most_ns`` together; gives what was charged."""
        paid = shares(
            Counter({key: ns for key, ns in claims.items() if key in self.group.series}), most_ns
        )
        for key, paid_ns in paid.items():
            self._charge_cpu(self.group.series[key], paid_ns, now_ns)
        return paid

    def _charge_cpu(self, series: Series, cpu_ns: int, now_ns: int) -> None:
        """Charge CPU time of which only the sum is known, split as the process splits its own."""
        series.touch(now_ns)
        system_ns = round(cpu_ns * self._system_share)
        series.system_ns += system_ns
        series.user_ns += cpu_ns - system_ns
        self._charged_ns += cpu_ns

    def _follow_exec(self, sample: ProcessReading, gone: set[Identity]) -> set[Identity]:
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


def _has_ended(entry: ThreadAccount, thread: ThreadReading) -> bool:
    """Whether a thread that looks like ``entry`` may be another one, by its publisher's word.

    That the one before has ended in the tick in which both were born.
    """
    told = entry.told
    return (
        told is not None
        and told.early
        and told.cpu_ns is not None
        and thread.slot != entry.sample.slot
        and entry.sample.cpu_ns <= _BRIEF_NS
    )
