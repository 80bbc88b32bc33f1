"""Finds the processes to watch, and looks at them again. :mod:`.admission` says which those are.

Rules:

* Facts are not read again without a reason. But a process may exec another program, which keeps its
PID and start time, or begin to publish; and a PID may get a new owner. So each process is looked at
again after 1, 2, 4 … 32 polls at most. If its CPU clock has not moved, it has done nothing of the
kind, and that look costs one system call. The looks at different processes are spread over the
polls.
* A watched process may change its group by such a look, or cease to be watched.
* A process that ends during a look is treated as if it had never existed.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping

from threadwatch.config.settings import Config
from threadwatch.discovery.admission import Admission
from threadwatch.discovery.looks import LONGEST_WAIT, Looks, LookSchedule
from threadwatch.discovery.others import Other, Others
from threadwatch.errors import Gone, ReadError
from threadwatch.handover.inbox import Inbox
from threadwatch.model.keys import ProcessKey
from threadwatch.model.readings import NS_PER_TICK
from threadwatch.names.slot_budget import SharedBudget
from threadwatch.procfs import ProcFS, Stat, is_kernel_thread, parse_stat, parse_waited
from threadwatch.procfs.marks import Lock
from threadwatch.reading.hangs import HangRecords
from threadwatch.reading.reader import GuardedReader, owner_of, still_waiting
from threadwatch.targets.process import Process

_FEW_PIDS = 256
"""Up to this many new PIDs are asked for one by one; for more, it is cheaper to list all processes."""
_OTHER_FILES = 64
"""File descriptors that are left for all other uses, besides a quarter for hot threads and scrapers."""
_TABLES_SHARE = 16
"""One in this many file descriptors is for a process's second or further table."""
_YOUNG_TICKS = 6000
_LIST_ALL_EVERY = 32
"""Polls after which all processes are listed in any case."""


def most_watched(files: int) -> int:
    """Return how many processes a daemon with this many open files can watch: each takes two."""
    return max((files - files // 4 - files // _TABLES_SHARE - _OTHER_FILES) // 2, 1)


class Discovery:
    """Keeps :attr:`watched` up to date."""

    def __init__(
        self,
        procfs: ProcFS,
        config: Config,
        guarded: GuardedReader,
        errors: list[ReadError],
        inbox: Inbox,
        *,
        thorough: bool = False,
    ) -> None:
        """``inbox``, ``thorough``: as in :class:`~threadwatch.discovery.admission.Admission`."""
        self.watched: dict[int, Process] = {}
        self._procfs = procfs
        self._guarded = guarded
        self._errors = errors
        self._inbox = inbox
        self._others = Others()
        self._looks: dict[int, Looks] = {}
        """The looks at watched processes, by PID."""
        self._schedule = LookSchedule()
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        budget = SharedBudget(soft // _TABLES_SHARE)
        self._most = most_watched(soft)
        self._gone: list[Process] = []
        self._last_pid: int | None = None
        self._scanned_ticks: tuple[int | None, int | None] = (None, None)
        """When new processes were looked for, the time before and now (CLOCK_BOOTTIME)."""
        self._list_all_in = 0
        self.left_out: set[int] = set()
        """PIDs of processes that are left out for lack of file descriptors."""
        self._always: frozenset[int] = frozenset()
        """PIDs that are watched in any case."""
        self._admission = Admission(
            config, self.watched, guarded, budget, errors, inbox, thorough=thorough
        )
        self.use(config)

    def use(self, config: Config) -> None:
        """Choose by another configuration from the next :meth:`scan` on."""
        self._admission.use(config)
        self._others.clear()
        self._list_all_in = 0
        self._schedule.clear()
        for watched in self.watched.values():
            self._judge_next(watched)

    def always_watch(self, pids: frozenset[int]) -> None:
        """Watch these processes, whatever they are."""
        self._always = pids

    def look_soon(self, watched: Process, poll: int) -> None:
        """Look at a process again in the poll after this one, because it has changed."""
        looks = self._looks[watched.key.pid]
        looks.soon()
        looks.again()
        self._schedule.at(poll + 1, watched.key.pid)

    def drop(self, watched: Process) -> None:
        """Watch a process no longer: it has gone, and the caller closes it."""
        del self.watched[watched.key.pid], self._looks[watched.key.pid]

    def scan(self, poll: int) -> list[Process]:
        """Find processes; return those to let go, as :meth:`take_gone` does."""
        self._guarded.run_all(
            self.due(poll),
            lambda pid: self.look_at(pid, poll),
            lambda pid, lock: self.go_on_without(pid, lock, poll),
            left_out=lambda pid: self.leave_out(pid, poll),
        )
        return self.take_gone()

    def due(self, poll: int) -> list[int]:
        """Return the processes to be looked at in a poll, in this order: those that may be something new."""
        self._admission.begin()
        self._scanned_ticks = self._scanned_ticks[1], _now_ticks()
        self._judge_again(self._admission.renamed_users())
        due = self._schedule.take(poll)
        try:
            due.update(self._new_pids(poll))
        except ReadError as error:
            self._errors.append(error)
        handed = self._inbox.senders()
        due.update(handed)
        # Parents, mostly, before their children.
        return [pid for pid in sorted(due) if pid in handed or not self._rests(pid, poll)]

    def _judge_again(self, users: set[int]) -> None:
        """Look in the next poll at processes of these users, and at all that are not watched."""
        if not users:
            return
        self._others.clear()
        self._list_all_in = 0
        for watched in self.watched.values():
            if watched.facts.uid in users:
                self._judge_next(watched)

    def _judge_next(self, watched: Process) -> None:
        """Look at a watched process in the next poll, whether it runs or not."""
        self._looks[watched.key.pid].again()
        watched.rest.disturb()
        self._schedule.at(0, watched.key.pid)

    def look_at(self, pid: int, poll: int) -> None:
        """Decide whether a process is watched, and in which group."""
        watched = self.watched.get(pid)
        try:
            if watched is None:
                self._look(pid, poll)
            elif not self._look_again(watched, poll):
                self._let_go(watched)
            self._inbox.put_off(pid)
        except Gone:
            self._others.forget(pid, poll)
            self.left_out.discard(pid)
            self._inbox.drop(pid, "ended")
            if watched is not None:
                self._let_go(watched)
        except ReadError as error:
            self._errors.append(error)
            self._inbox.put_off(pid)

    def _let_go(self, watched: Process) -> None:
        self.drop(watched)
        self._gone.append(watched)

    def take_gone(self) -> list[Process]:
        """Return processes that have left :attr:`watched` since the last call, for the caller to close."""
        gone, self._gone = self._gone, []
        return gone

    def go_on_without(self, pid: int, lock: Lock, poll: int) -> None:
        """Go on without a process that makes the reading thread wait."""
        watched = self.watched.get(pid)
        if watched is not None:
            hangs, directory = watched.hangs, watched.dir
            self._looks[pid].again()
        else:
            hangs = self._hangs_of(pid)
            self._others.add(pid, Other(-1, Looks(), hangs))
            self._schedule.at(poll + 1, pid)
            try:
                directory = self._procfs.open_process(pid)
            except (Gone, ReadError):
                return
        self._guarded.give_up(hangs, lock, owner_of(directory), time.monotonic_ns())
        if watched is None:
            directory.close()
        self._errors.append(
            still_waiting(pid)
            if lock == "exec"
            else ReadError("cmdline", "timeout", f"the memory of PID {pid} is locked, or its file")
        )

    def leave_out(self, pid: int, poll: int) -> None:
        """Give a process that was not looked at another turn."""
        self._schedule.at(poll + 1, pid)

    def _rests(self, pid: int, poll: int) -> bool:
        """Return whether a known process has not run since the last look; then it has another turn later."""
        watched = self.watched.get(pid)
        if watched is not None:
            if watched.last.clock_ns != self._looks[pid].clock_ns:
                return False
            self._put_off(watched, poll)
            return True
        other = self._others.get(pid)
        if other is None or not self._procfs.same_namespace:
            return False
        looks = other.looks
        try:
            if self._procfs.process_clock_ns(pid) != looks.clock_ns:
                return False
        except (Gone, ReadError):
            return False  # opening it will tell
        looks.later()
        self._schedule.after(poll, looks.wait, pid)
        return True

    def _hangs_of(self, pid: int) -> HangRecords:
        """Return those of a process that is not watched."""
        other = self._others.get(pid)
        return HangRecords() if other is None else other.hangs

    def _new_pids(self, poll: int) -> list[int]:
        """Return PIDs that have come since the last poll, and perhaps some others."""
        last = self._procfs.last_pid()
        before, self._last_pid = self._last_pid, last
        if (
            poll < self._list_all_in
            and last is not None
            and before is not None
            and before <= last <= before + _FEW_PIDS
        ):
            # The kernel gives out PIDs in ascending order, to threads as well.
            new = [pid for pid in range(before + 1, last + 1) if self._procfs.is_process(pid)]
            for pid in new:
                self._others.forget(pid, poll)
            return new
        self._list_all_in = poll + _LIST_ALL_EVERY
        pids = self._procfs.pids()
        for pid in self._others.gone(pids):
            self._others.forget(pid, poll)
        self.left_out.intersection_update(pids)
        return [pid for pid in pids if pid not in self.watched and pid not in self._others]

    def _look(self, pid: int, poll: int) -> None:
        other = self._others.get(pid)
        hangs = self._hangs_of(pid)
        clock_ns = self._procfs.process_clock_ns(pid) if self._procfs.same_namespace else -1
        process = self._procfs.open_process(pid)
        if not self._admission.may_read(hangs, "exec", process):
            process.close()
            self._schedule.at(poll + 1, pid)
            return
        looks = Looks()
        try:
            data = process.read("stat", "stat")
            stat = parse_stat(data)
            watched, wait = None, LONGEST_WAIT
            if not is_kernel_thread(data):
                wait = 1
                self._others.note_parent(stat.ppid)
                before_ticks = self._scanned_ticks[0]
                watched = self._admission.admit(
                    process,
                    ProcessKey(pid, stat.start_ticks),
                    data,
                    looks,
                    hangs,
                    asked_for=pid in self._always,
                    newborn=other is None
                    and before_ticks is not None
                    and stat.start_ticks >= before_ticks,
                )
        except BaseException:
            process.close()
            raise
        if watched is not None and len(self.watched) >= self._most and pid not in self._always:
            detail = f"can watch {self._most} processes with the file descriptors that it may open"
            self._errors.append(ReadError("process", "emfile", detail))
            watched.names.close()
            watched = None
            self.left_out.add(pid)
        else:
            self.left_out.discard(pid)
        if watched is not None:
            self._others.discard(pid)
            self.watched[pid] = watched
            self._looks[pid] = looks
        else:
            process.close()
            wait = self._pass_over(pid, stat, data, clock_ns, wait, hangs, poll)
        self._schedule.after(poll, wait, pid)

    def _pass_over(
        self,
        pid: int,
        stat: Stat,
        data: bytes,
        clock_ns: int,
        wait: int,
        hangs: HangRecords,
        poll: int,
    ) -> int:
        """Note that a process is not watched; return after how many polls to look again."""
        before = self._others.get(pid)
        since, is_parent, had_ended = poll, any(parse_waited(data)), stat.state == "Z"
        if before is not None and before.start_ticks == stat.start_ticks:
            wait = min(max(before.looks.wait * 2, wait), LONGEST_WAIT)
            since, had_ended = before.since, before.had_ended
            is_parent = is_parent or before.is_parent
        looks = Looks(wait, clock_ns)
        self._others.add(
            pid, Other(stat.start_ticks, looks, hangs, stat.ppid, since, is_parent, had_ended)
        )
        return wait

    def take_parents(self) -> set[int]:
        """Return the PIDs of processes that have been seen with a child since the last call."""
        return self._others.take_parents()

    def take_gone_children(
        self, parents: set[int], poll: int
    ) -> tuple[set[int], Mapping[int, int]]:
        """Return what :meth:`.Others.take_gone_children` does.

        Children of ``parents`` are looked for; those of others are found by chance.
        """
        if parents and self._procfs.same_namespace:
            for pid in self._others.children_of(parents):
                if not self._procfs.is_process(pid):
                    self._others.forget(pid, poll)
        return self._others.take_gone_children()

    def _look_again(self, watched: Process, poll: int) -> bool:
        """Return whether a process is still to be watched; its group may be another from now on."""
        self._put_off(watched, poll)
        pid = watched.key.pid
        return self._admission.readmit(watched, self._looks[pid], asked_for=pid in self._always)

    def _put_off(self, watched: Process, poll: int) -> None:
        """Look at a process again after a while."""
        looks = self._looks[watched.key.pid]
        if watched.tables.searching:
            looks.soon()
        elif watched.tables.known or not self._is_young(watched):
            looks.later()
        self._schedule.after(poll, looks.wait, watched.key.pid)

    def _is_young(self, watched: Process) -> bool:
        """Return whether it may be about to publish: most do within their first minute, or never."""
        return _now_ticks() - watched.key.start_ticks < _YOUNG_TICKS


def _now_ticks() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // NS_PER_TICK
