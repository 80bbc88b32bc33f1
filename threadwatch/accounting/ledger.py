"""Keeps one process's books: the charges of its threads, against the process's clock.

No CPU time is lost or counted twice (docs/decisions/0007-conservation-of-cpu-time.md). The kernel's
process clock counts all threads, ended ones included. Each poll charges every living thread with
what its own clock has gained. Ended threads have used what the process clock has beyond that:

* First come the threads whose end was published, each with what its last sum has beyond its
charges.
* A thread runs on for a moment after its end has been published: the rest of the interpreter's
work, and the kernel's. So the threads that have ended of late come next
(:mod:`threadwatch.accounting.exit_tails`).
* The rest was used by threads that no poll saw, or not to their end. It is ``(unattributed)``.

So a publisher only divides what the kernel has counted: it can add nothing.

The clock is read before the threads, and Linux books both at the same moments
(kernel/sched/cputime.c, thread_group_cputime(); old kernels had the clock up to a tick ahead). So
the clock is never ahead of living threads that have been read. Their CPU time in between lets their
sum run ahead; then the sum counts, until the clock has caught up. The CPU time of ended threads in
between is charged in the next poll. Clock and sum cover the process's whole life: an error of one
poll is corrected by the next, and errors do not add up.

A thread of the kernel has one life, whatever Python calls it. For Python, a thread of C that calls
Python now and then is a new thread each time, with an end each time: these ends belong to a thread
that lives on, or to one that has ended once.

TID and start time identify a thread, except in two cases. The thread that calls exec takes over the
leader's, and all others end. And a TID may be used again within a tick. Then the kernel's counts
seem to go back, or forward by more than the process has used, or the publisher has told of an end
in that tick.

A thread is started under the name that it is first seen by, and ended under its last: with renamed
threads, started minus ended is the number of living threads for the group, not for each name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain

from threadwatch.accounting.balance import Balance, Due
from threadwatch.accounting.exec import find_caller
from threadwatch.accounting.group import Group
from threadwatch.accounting.loop_account import ProcessLoops
from threadwatch.accounting.thread_account import ThreadAccount, charge_times
from threadwatch.accounting.thread_views import ThreadViewMaker, newborn
from threadwatch.model.keys import ProcessKey
from threadwatch.model.loops import LoopReading
from threadwatch.model.readings import (
    NS_PER_TICK,
    EndedThread,
    Identity,
    ProcessReading,
    SlotKey,
    ThreadReading,
)
from threadwatch.model.states import OF_LETTER
from threadwatch.model.view import ThreadView

_LAST_NS = 1_000_000_000
"""CPU time beyond the last reading of its clock that a process's last ends are believed."""
_UNREASONED = frozenset(OF_LETTER.values())
"""States that the kernel's letter says without a sample."""
_SKEW_NS = 20_000_000
"""CPU time that a thread uses at most while a poll reads its process."""
_BRIEF_NS = 2 * NS_PER_TICK
"""CPU time of a thread that can have been born and ended within one tick, and a little more."""


class Ledger:
    """The books of one process. Charge it with samples in order of time, and close it at its end."""

    def __init__(self, group: Group, key: ProcessKey) -> None:
        self.group = group
        self._key = key
        self._accounts: dict[Identity, ThreadAccount] = {}
        self._balance = Balance(key)
        self._loops = ProcessLoops()
        self._late: dict[Identity, SlotKey | None] = {}
        """Threads that have gone before all that their publisher tells could be read, and the slots that
        are known to be theirs."""
        self._shown: dict[Identity, ThreadViewMaker] = {}
        self._charged_ns = self._shown_ns = 0
        """Up to when samples have been charged, and had been when the threads were last shown."""
        self._newborn: list[ThreadReading] = []
        """Threads whose names are about to come: they are shown, and charged once they have one."""

    @property
    def cpu_ns(self) -> int:
        """Return what has been charged for the process so far."""
        return self._balance.cpu_ns

    @property
    def accounts(self) -> Mapping[Identity, ThreadAccount]:
        """Return its living threads."""
        return self._accounts

    def charge(self, sample: ProcessReading) -> None:
        """Charge what has been used since the reading before."""
        now_ns = sample.time_ns
        self.group.touch()
        self._balance.read(sample)
        self._charged_ns = now_ns
        waits = sample.waits or {}
        for identity, seen in waits.items():
            # First of all: until now, the threads' time has passed in the states before, not in these.
            account = self._accounts.get(identity)
            if account is not None and (seen.times or seen.gil_held_ns):
                account.credit(seen, now_ns, has_gil=sample.has_gil)
        living = sample.living
        gone: set[Identity] = set()
        if living is not None:
            gone = self._follow_exec(sample, self._accounts.keys() - living)
        unmet = self._hear(sample.ended, gone)
        open_ns = sample.unread_ns
        self._newborn.clear()
        self._forgive(sample)
        for thread in sample.threads:
            identity = (thread.tid, thread.start_ticks)
            if thread.name_pending and identity not in self._accounts:
                open_ns += thread.cpu_ns
                if not thread.too_young_to_show:
                    self._newborn.append(thread)
                continue
            if not thread.exact:
                open_ns += 2 * NS_PER_TICK  # user and system time, each cut off to a tick
            self._charge_thread(identity, thread, now_ns, sampled=sample.waits is not None)
        self._balance.charged(charge_times(self._accounts, sample.times))
        for identity, seen in waits.items():
            account = self._accounts.get(identity)
            if account is not None:
                account.see(seen, now_ns, has_gil=sample.has_gil)
        self._add_lives(self._hear(unmet, gone), now_ns)
        if self._loops or sample.loops:
            self._loops.charge(sample.loops or {}, self._accounts, self.group, now_ns)
        self._loops.passed(now_ns)
        late = {identity: self._accounts[identity].slot for identity in gone}
        for identity in gone:
            self._end(identity, now_ns)
        self._late = self._late | late if sample.behind else {}
        self._balance.charge_rest(self.group, sample, open_ns)

    def see_loops(self, readings: Mapping[Identity, LoopReading], now_ns: int) -> None:
        """Charge what looks at the loops of a process that rests have seen."""
        self.group.touch()
        self._loops.charge(readings, self._accounts, self.group, now_ns)

    def views(self, elapsed_ns: int | None) -> tuple[ThreadView, ...]:
        """Return the threads as they are now, in order of their TIDs.

        ``elapsed_ns`` is the time since the last call; None: unknown, so there are no CPU ratios
        either.
        """
        shown, self._shown = self._shown, {}
        span_ns, self._shown_ns = self._charged_ns - self._shown_ns, self._charged_ns
        views = []
        for identity, account in sorted(self._accounts.items()):
            one = ThreadViewMaker.of(account, shown.get(identity), elapsed_ns, span_ns)
            self._shown[identity] = one
            loop = self._loops.view(identity, elapsed_ns)
            views.append(one.view if loop is None else replace(one.view, loop=loop))
        if self._newborn:
            views += [newborn(sample, self.group.fold(sample.name)) for sample in self._newborn]
            views.sort(key=lambda view: view.tid)
        return tuple(views)

    def move(self, group: Group, now_ns: int) -> None:
        """Move the process to another group; earlier charges stay where they are.

        CPU time that the process clock shows already and no thread has been charged with stays in
        the old group's clock (see :attr:`ProcessReading.unread_ns`), although the thread will be
        charged in the new one.
        """
        self.group.touch()
        group.touch()
        self.group = group
        for account in self._accounts.values():
            self._place(account, account.sample.name, now_ns)

    def close(self, ended: tuple[EndedThread, ...], now_ns: int) -> None:
        """Note that the process has ended, and these threads with it, as far as its publisher could tell.

        What the others have used since the last reading is unknown.
        """
        self.group.touch()
        gone = set(self._accounts)
        self._add_lives(self._hear(ended, gone), now_ns)
        for identity in gone:
            self._end(identity, now_ns)
        self._balance.close(self.group, _LAST_NS, now_ns)

    def _charge_thread(
        self, identity: Identity, thread: ThreadReading, now_ns: int, *, sampled: bool
    ) -> None:
        state = OF_LETTER.get(thread.state, "other")
        account = self._accounts.get(identity)
        if account is not None and not thread.can_be(account.sample):
            self._end(identity, now_ns)  # another one, born in the same tick
            account = None
        elif account is not None and _has_ended(account, thread):
            self._end(identity, now_ns)  # another one as well, but only its publisher says so
            self._succeed(identity, thread, state, now_ns)
            return
        if account is None:
            account = self._begin(identity, thread, state, now_ns)
            self._balance.charged(account.gain(thread, now_ns))
            account.begin(now_ns)
        else:
            before = account.series
            if thread.name != account.sample.name:
                self._place(account, thread.name, now_ns)
            self._balance.charged(account.gain(thread, now_ns, before))
            if state == "running" and account.waited_ns > account.gained_ns:
                state = "runnable"
            if state != "sleeping" or not sampled or account.wait in _UNREASONED:
                account.change(state, now_ns)
            elif account.state != account.wait:
                account.change(account.wait, now_ns)

    def _begin(
        self, identity: Identity, thread: ThreadReading, state: str, now_ns: int
    ) -> ThreadAccount:
        key, series = self.group.place(thread.name, self._key, thread.tid, now_ns)
        wait = "sleeping" if state == "running" else state
        account = self._accounts[identity] = ThreadAccount(key, series, state, wait, thread)
        return account

    def _succeed(self, identity: Identity, thread: ThreadReading, state: str, now_ns: int) -> None:
        """Begin with a thread that may be the one before: charge what the clock has room for."""
        account = self._begin(identity, thread, state, now_ns)
        account.gain(thread._replace(cpu_ns=0), now_ns)
        account.begin(now_ns)
        account.skip(thread)
        self._balance.add_due(Due(account.key, account.series, thread.cpu_ns))

    def _forgive(self, sample: ProcessReading) -> None:
        """Charge no threads as long as more has been charged than the clock has, if that ever happens."""
        excess_ns = -self._balance.room_ns - _SKEW_NS
        if excess_ns <= 0:
            return
        times = ((t.identity, t.cpu_ns) for t in sample.times)
        for identity, cpu_ns in chain(
            (((t.tid, t.start_ticks), t.cpu_ns) for t in sample.threads), times
        ):
            account = self._accounts.get(identity)
            if account is not None:
                forgiven_ns = min(max(cpu_ns - account.user_ns - account.system_ns, 0), excess_ns)
                account.forgive(forgiven_ns)
                excess_ns -= forgiven_ns

    def _place(self, account: ThreadAccount, name: str, now_ns: int) -> None:
        """Charge the account under ``name`` from now on."""
        sample = account.sample
        key, series = self.group.place(name, self._key, sample.tid, now_ns)
        account.place(key, series, now_ns)
        self._loops.place((sample.tid, sample.start_ticks), now_ns)

    def _hear(self, ended: Iterable[EndedThread], gone: set[Identity]) -> list[EndedThread]:
        """Let known threads keep what is told of their ends; return the ends of others.

        A thread lives on for as long as the kernel shows it.
        """
        unmet = []
        for end in ended:
            account = self._account_of(end, gone)
            if account is None:
                unmet.append(end)
            else:
                account.hear(end)
        return unmet

    def _account_of(self, end: EndedThread, gone: set[Identity]) -> ThreadAccount | None:
        """Return the thread that an end is told of, if it is known."""
        account = self._accounts.get(end.thread) if end.thread is not None else None
        if account is None or account.sample.slot == end.slot:
            return account
        if end.early and account.sample.slot is not None:
            return None  # of one that had the TID before, in the same tick
        told = account.told
        if told is not None and not told.visitor and (told.early or end.thread in gone):
            return None  # of one that had the TID afterwards
        return account

    def _add_lives(self, ended: list[EndedThread], now_ns: int) -> None:
        """Count whole lives that no poll saw."""
        visits: dict[int, int] = {}
        for end in ended:
            if self._has_been_counted(end):
                continue
            key, series = self.group.place(end.name, self._key, end.tid, now_ns)
            series.touch(now_ns)
            cpu_ns = end.cpu_ns or 0
            charged_ns = visits.get(end.tid) if end.visitor else None
            if charged_ns is None or 0 < cpu_ns < charged_ns:
                charged_ns = 0
                series.add_life()
                if end.cpu_ns is not None:
                    self._balance.add_tail(key, end)
            if end.visitor:
                visits[end.tid] = max(cpu_ns, charged_ns)
            if cpu_ns > charged_ns:
                self._balance.add_due(Due(key, series, cpu_ns - charged_ns))

    def _has_been_counted(self, end: EndedThread) -> bool:
        """Return whether this is told late of a thread whose end has been counted, and not of a later one."""
        if end.thread not in self._late:
            return False
        slot = self._late[end.thread]
        if slot is None:
            self._late[end.thread] = slot = end.slot
        same_table = slot[0] == end.slot[0]  # a thread can be published anew in another
        return end.visitor or slot == end.slot or not same_table

    def _end(self, identity: Identity, now_ns: int) -> None:
        """Note that the kernel does not show the thread any more."""
        account = self._accounts.pop(identity)
        told, passed = account.told, (account.series, account.wait)
        if told is not None and told.name != account.sample.name:
            self._place(account, told.name, now_ns)
        account.end(now_ns)
        loop = self._loops.end(identity, now_ns)
        self._balance.add_tail(account.key, told)
        if told is not None and told.cpu_ns is not None:
            due_ns = told.cpu_ns - account.user_ns - account.system_ns
            if due_ns > 0:
                self._balance.add_due(Due(account.key, account.series, due_ns, passed, loop))

    def _follow_exec(self, sample: ProcessReading, gone: set[Identity]) -> set[Identity]:
        """Find out whether a thread that has gone is the leader now; return which have really gone."""
        identity = (self._key.pid, self._key.start_ticks)
        leader = self._accounts.get(identity)
        if not gone or leader is None or len(gone) < len(self._accounts) - 1:
            return gone
        thread = next((t for t in sample.threads if (t.tid, t.start_ticks) == identity), None)
        if thread is None:
            return gone
        caller = find_caller(
            leader.sample,
            thread,
            {one: self._accounts[one].sample for one in gone},
            self._balance.room_ns + _SKEW_NS,
        )
        if caller is None:
            return gone
        self._end(identity, sample.time_ns)
        self._loops.end(caller, sample.time_ns)
        account = self._accounts[identity] = self._accounts.pop(caller)
        account.become(thread.tid, thread.start_ticks)
        self._place(account, account.sample.name, sample.time_ns)
        return gone - {caller}


def _has_ended(account: ThreadAccount, thread: ThreadReading) -> bool:
    """Return whether a thread that looks like ``account`` may be another one, by its publisher's word.

    Then the one before has ended in the tick in which both were born.
    """
    told = account.told
    return (
        told is not None
        and told.early
        and told.cpu_ns is not None
        and thread.slot != account.sample.slot
        and account.sample.cpu_ns <= _BRIEF_NS
    )
