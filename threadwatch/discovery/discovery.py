"""Looks at processes, and keeps those that are watched.

:mod:`.turns` says at which processes to look in a poll, :mod:`.admission` which of them are watched.

* A watched process may change its group by a look, or cease to be watched.
* A process that ends during a look is treated as if it had never existed.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping

from threadwatch.config.settings import Config
from threadwatch.discovery.admission import Admission
from threadwatch.discovery.looks import LONGEST_WAIT, Looks
from threadwatch.discovery.others import Other, Others
from threadwatch.discovery.turns import Turns
from threadwatch.errors import Gone, ReadError
from threadwatch.handover.inbox import Inbox
from threadwatch.model.keys import ProcessKey
from threadwatch.names.slot_budget import SharedBudget
from threadwatch.procfs import ProcFS, Stat, is_kernel_thread, parse_stat, parse_waited
from threadwatch.procfs.marks import Lock
from threadwatch.reading.hangs import HangRecords
from threadwatch.reading.reader import GuardedReader, owner_of, still_waiting
from threadwatch.targets.process import Process

_OTHER_FILES = 64
"""File descriptors that are left for all other uses, besides a quarter for hot threads and scrapers."""
_TABLES_SHARE = 16
"""One in this many file descriptors is for a process's second or further table."""


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
        self._turns = Turns(procfs, self.watched, self._others, errors)
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        budget = SharedBudget(soft // _TABLES_SHARE)
        self._most = most_watched(soft)
        self._gone: list[Process] = []
        self.left_out: set[int] = set()
        """PIDs of processes that are left out for lack of file descriptors."""
        self._always: frozenset[int] = frozenset()
        """PIDs that are watched in any case."""
        self._admission = Admission(
            config, self.watched, guarded, budget, errors, inbox, thorough=thorough
        )

    def use(self, config: Config) -> None:
        """Choose by another configuration from the next :meth:`scan` on."""
        self._admission.use(config)
        self._turns.judge_all_again()

    def always_watch(self, pids: frozenset[int]) -> None:
        """Watch these processes, whatever they run."""
        self._always = pids

    def look_soon(self, watched: Process, poll: int) -> None:
        """Look at a process again in the poll after this one, because it has changed."""
        self._turns.soon(watched, poll)

    def drop(self, watched: Process) -> None:
        """Watch a process no longer: it has gone, and the caller closes it."""
        del self.watched[watched.key.pid]
        self._turns.drop(watched.key.pid)

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
        """Return the PIDs to look at in a poll, in this order: new ones, and those that may have changed."""
        self._admission.begin()
        self._turns.judge_users_again(self._admission.renamed_users())
        due = self._turns.due(poll, self._inbox.senders())
        self.left_out = {pid for pid in self.left_out if pid in self._others}
        return due

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
            self._turns.of(watched).again()
        else:
            hangs = self._hangs_of(pid)
            self._others.add(pid, Other(-1, Looks(), hangs))
            self._turns.next(pid, poll)
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
        self._turns.next(pid, poll)

    def _hangs_of(self, pid: int) -> HangRecords:
        """Return the hangs of a process that is not watched."""
        other = self._others.get(pid)
        return HangRecords() if other is None else other.hangs

    def _look(self, pid: int, poll: int) -> None:
        other = self._others.get(pid)
        hangs = self._hangs_of(pid)
        clock_ns = self._procfs.process_clock_ns(pid) if self._procfs.same_namespace else -1
        process = self._procfs.open_process(pid)
        if not self._admission.may_read(hangs, "exec", process):
            process.close()
            self._turns.next(pid, poll)
            return
        looks = Looks()
        try:
            data = process.read("stat", "stat")
            stat = parse_stat(data)
            watched, wait = None, LONGEST_WAIT
            if not is_kernel_thread(data):
                wait = 1
                self._others.note_parent(stat.ppid)
                watched = self._admission.admit(
                    process,
                    ProcessKey(pid, stat.start_ticks),
                    data,
                    looks,
                    hangs,
                    asked_for=pid in self._always,
                    newborn=other is None and self._turns.is_newborn(stat.start_ticks),
                )
        except BaseException:  # whatever ends this: its files are closed
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
            self._turns.watch(pid, looks)
        else:
            process.close()
            wait = self._pass_over(pid, stat, data, clock_ns, wait, hangs, poll)
        self._turns.after(pid, poll, wait)

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
        self._turns.put_off(watched, poll)
        asked_for = watched.key.pid in self._always
        return self._admission.readmit(watched, self._turns.of(watched), asked_for=asked_for)
