"""Finds the processes to watch, and looks at them again. :mod:`.admission` says which those are.

Rules:

* What is known is not read again. But a process may exec another program, which keeps its PID and
  start time, or begin to publish; and a PID may get a new owner. So each process is looked at again
  after 1, 2, 4 … 32 polls at most. If its CPU clock has not moved, it has done nothing of the kind, and that
  look costs one system call. Each has polls of its own, so that not all are looked at in the same.
* A process that is watched may change its group by that, or cease to be watched.
* A process that ends while it is looked at is as if it had never been.
"""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from threadwatch.config.parse import Config
from threadwatch.discovery.admission import Admission
from threadwatch.errors import Gone, ReadError
from threadwatch.model.readings import NS_PER_TICK
from threadwatch.model.view import ProcessKey
from threadwatch.names.slot_budget import SharedBudget
from threadwatch.procfs import ProcFS, is_kernel_thread, parse_stat, parse_waited
from threadwatch.procfs.marks import Lock
from threadwatch.reading.reader import GuardedReader, HangRecords, owner_of, still_waiting
from threadwatch.targets.process import Watched

_LONGEST_WAIT = 32
"""Polls after which a process is looked at again, at the latest."""
_FEW_PIDS = 256
"""So many new PIDs are asked for one by one; beyond, it is cheaper to list all processes."""
_OTHER_FILES = 64
"""File descriptors that are left for all else, beside a quarter for hot threads and scrapers."""
_TABLES_SHARE = 16
"""Of so many file descriptors, one is for a process's second or further table."""
_YOUNG_TICKS = 6000
_BRIEF = 2
"""Polls for which a process that is not watched can be seen, and still counts as work of its parent."""
_LIST_ALL_EVERY = 32
"""Polls after which all processes are listed in any case."""


@dataclass(slots=True)
class _Passed:
    """A process that is not watched."""

    start_ticks: int
    clock_ns: int
    wait: int
    hangs: HangRecords
    ppid: int = 0
    since: int = 0
    """The poll in which it was first seen."""
    parent: bool = False
    """It has been seen with a child."""
    unseen: bool = False
    """It had ended when it was first seen, and was yet to be waited for."""


def most_watched(files: int) -> int:
    """How many processes are watched by a daemon that may open so many files: each takes two."""
    return max((files - files // 4 - files // _TABLES_SHARE - _OTHER_FILES) // 2, 1)


class Discovery:
    """Keeps :attr:`watched` up to date."""

    def __init__(
        self,
        procfs: ProcFS,
        config: Config,
        guarded: GuardedReader,
        errors: list[ReadError],
        *,
        thorough: bool = False,
    ) -> None:
        """``thorough``: as in :class:`~threadwatch.discovery.admission.Admission`."""
        self.watched: dict[int, Watched] = {}
        self._procfs = procfs
        self._guarded = guarded
        self._errors = errors
        self._passed: dict[int, _Passed] = {}
        self._due: dict[int, list[int]] = {}
        """By the number of the poll: the PIDs to look at again in it."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        room = SharedBudget(soft // _TABLES_SHARE)
        self._most = most_watched(soft)
        self._gone: list[Watched] = []
        self._last_pid: int | None = None
        self._parents: set[int] = set()
        """PIDs of processes that have been seen with a child."""
        self._foreign: set[int] = set()
        """PIDs of those that had a child which was not watched, lived for a while, and has gone."""
        self._unseen: Counter[int] = Counter()
        """CPU time in ns of those children of theirs that had ended when they were first seen."""
        self._scanned_ticks: tuple[int | None, int | None] = (None, None)
        """When new processes were looked for, the time before and now (CLOCK_BOOTTIME)."""
        self._list_all_in = 0
        self.left_out: set[int] = set()
        """PIDs of processes that would be watched if there were file descriptors for them."""
        self.always: frozenset[int] = frozenset()
        """PIDs that are watched whatever they are."""
        self._admission = Admission(config, self.watched, guarded, room, errors, thorough=thorough)
        self.use(config)

    def use(self, config: Config) -> None:
        """Choose by another configuration from the next :meth:`scan` on."""
        self._admission.use(config)
        self._passed.clear()
        self._list_all_in = 0
        self._due.clear()
        for watched in self.watched.values():
            watched.looked_clock_ns, watched.settled = -1, False
            self._due.setdefault(0, []).append(watched.key.pid)

    def look_soon(self, watched: Watched, poll: int) -> None:
        """Look at a process again in the poll after this one: something has become of it."""
        watched.look_wait, watched.looked_clock_ns = 1, -1
        self._due.setdefault(poll + 1, []).append(watched.key.pid)

    def scan(self, poll: int) -> list[Watched]:
        """Find processes. Gives those that are to be let go, as :meth:`take_gone`."""
        self._guarded.run_all(
            self.due(poll),
            lambda pid: self.look_at(pid, poll),
            lambda pid, lock: self.go_on_without(pid, lock, poll),
            left_out=lambda pid: self.leave_out(pid, poll),
        )
        return self.take_gone()

    def due(self, poll: int) -> list[int]:
        """The processes to be looked at in a poll, in this order: those that may be something new."""
        self._admission.begin()
        self._scanned_ticks = self._scanned_ticks[1], _now_ticks()
        self._judge_again(self._admission.renamed_users())
        due = set(self._due.pop(poll, []) + self._due.pop(0, []))
        try:
            due.update(self._new_pids(poll))
        except ReadError as error:
            self._errors.append(error)
        # parents, mostly, before their children
        return [pid for pid in sorted(due) if not self._rests(pid, poll)]

    def _judge_again(self, users: set[int]) -> None:
        """Look in the next poll at processes of these users, and at all that are not watched."""
        if not users:
            return
        self._passed.clear()
        self._list_all_in = 0
        for watched in self.watched.values():
            if watched.uid in users:
                watched.looked_clock_ns, watched.settled = -1, False
                self._due.setdefault(0, []).append(watched.key.pid)

    def look_at(self, pid: int, poll: int) -> None:
        """See whether a process is to be watched, and as what."""
        watched = self.watched.get(pid)
        try:
            if watched is None:
                self._look(pid, poll)
            elif not self._look_again(watched, poll):
                self._gone.append(self.watched.pop(pid))
        except Gone:
            self._forget(pid, poll)
            self.left_out.discard(pid)
            if watched is not None:
                self._gone.append(self.watched.pop(pid))
        except ReadError as error:
            self._errors.append(error)

    def take_gone(self) -> list[Watched]:
        """Those that have left :attr:`watched` since this was last asked, and are the caller's to close."""
        gone, self._gone = self._gone, []
        return gone

    def go_on_without(self, pid: int, lock: Lock, poll: int) -> None:
        """A process keeps the thread waiting that looks at it."""
        watched = self.watched.get(pid)
        if watched is not None:
            hangs, directory = watched.hangs, watched.dir
            watched.looked_clock_ns = -1
        else:
            hangs = self._hangs_of(pid)
            self._passed[pid] = _Passed(-1, -1, 1, hangs)
            self._due.setdefault(poll + 1, []).append(pid)
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
        """It was not looked at, and its turn comes again."""
        self._due.setdefault(poll + 1, []).append(pid)

    def _rests(self, pid: int, poll: int) -> bool:
        """Whether a known process has not run since it was looked at: then it has another turn later."""
        watched = self.watched.get(pid)
        if watched is not None:
            if watched.clock_ns != watched.looked_clock_ns:
                return False
            self._put_off(watched, poll)
            return True
        passed = self._passed.get(pid)
        if passed is None or not self._procfs.same_namespace:
            return False
        try:
            if self._procfs.process_clock_ns(pid) != passed.clock_ns:
                return False
        except (Gone, ReadError):
            return False  # who opens it will find out
        passed.wait = min(passed.wait * 2, _LONGEST_WAIT)
        self._look_in(poll, passed.wait, pid)
        return True

    def _hangs_of(self, pid: int) -> HangRecords:
        """Those of a process that is not watched."""
        passed = self._passed.get(pid)
        return HangRecords() if passed is None else passed.hangs

    def _new_pids(self, poll: int) -> list[int]:
        """PIDs that have come since the last poll, and perhaps some others."""
        last = self._procfs.last_pid()
        before, self._last_pid = self._last_pid, last
        if (
            poll < self._list_all_in
            and last is not None
            and before is not None
            and before <= last <= before + _FEW_PIDS
        ):
            # PIDs are given out in ascending order, to threads as well
            new = [pid for pid in range(before + 1, last + 1) if self._procfs.is_process(pid)]
            for pid in new:
                self._forget(pid, poll)
            return new
        self._list_all_in = poll + _LIST_ALL_EVERY
        pids = self._procfs.pids()
        for pid in self._passed.keys() - set(pids):
            self._forget(pid, poll)
        self.left_out.intersection_update(pids)
        return [pid for pid in pids if pid not in self.watched and pid not in self._passed]

    def _look(self, pid: int, poll: int) -> None:
        passed = self._passed.get(pid)
        hangs = self._hangs_of(pid)
        clock_ns = self._procfs.process_clock_ns(pid) if self._procfs.same_namespace else -1
        process = self._procfs.open_process(pid)
        if not self._admission.may_read(hangs, "exec", process):
            process.close()
            self._due.setdefault(poll + 1, []).append(pid)
            return
        try:
            data = process.read("stat", "stat")
            stat = parse_stat(data)
            watched, wait = None, _LONGEST_WAIT
            if not is_kernel_thread(data):
                wait = 1
                self._note_parent(stat.ppid)
                watched = self._admission.admit(
                    process,
                    ProcessKey(pid, stat.start_ticks),
                    stat,
                    hangs,
                    asked_for=pid in self.always,
                )
        except BaseException:
            process.close()
            raise
        if watched is not None and len(self.watched) >= self._most and pid not in self.always:
            detail = f"can watch {self._most} processes with the file descriptors that it may open"
            self._errors.append(ReadError("process", "emfile", detail))
            watched.tables.close()
            watched = None
            self.left_out.add(pid)
        else:
            self.left_out.discard(pid)
        if watched is not None:
            self._passed.pop(pid, None)
            self.watched[pid] = watched
            watched.waited = parse_waited(data)
            before_ticks = self._scanned_ticks[0]
            watched.newborn = (
                passed is None and before_ticks is not None and stat.start_ticks >= before_ticks
            )
        else:
            process.close()
            since, parent, unseen = poll, any(parse_waited(data)), stat.state == "Z"
            if passed is not None and passed.start_ticks == stat.start_ticks:
                wait = min(max(passed.wait * 2, wait), _LONGEST_WAIT)
                since, unseen = passed.since, passed.unseen
                parent = parent or passed.parent
            self._passed[pid] = _Passed(
                stat.start_ticks, clock_ns, wait, hangs, stat.ppid, since, parent, unseen
            )
        self._look_in(poll, wait, pid)

    def take_parents(self) -> set[int]:
        """The PIDs of processes that have been seen with a child since this was last asked."""
        parents, self._parents = self._parents, set()
        return parents

    def take_gone_children(
        self, parents: set[int], poll: int
    ) -> tuple[set[int], Mapping[int, int]]:
        """What is known of children that were not watched and have gone since this was last asked.

        Which processes (by PID) had one that lived for a while; and by process, CPU time in ns of those that
        had ended when they were first seen. Of ``parents``, they are looked for; of others, found by chance.
        """
        if parents and self._procfs.same_namespace:
            children = [pid for pid, passed in self._passed.items() if passed.ppid in parents]
            for pid in children:
                if not self._procfs.is_process(pid):
                    self._forget(pid, poll)
        foreign, self._foreign = self._foreign, set()
        unseen, self._unseen = self._unseen, Counter()
        return foreign, unseen

    def _note_parent(self, pid: int) -> None:
        self._parents.add(pid)
        passed = self._passed.get(pid)
        if passed is not None:
            passed.parent = True

    def _forget(self, pid: int, poll: int) -> None:
        """A process has gone that is not watched, if it is known at all."""
        passed = self._passed.pop(pid, None)
        if passed is None:
            return
        if passed.parent or (poll > passed.since + _BRIEF and not passed.unseen):
            self._foreign.add(passed.ppid)
        elif passed.unseen:
            self._unseen[passed.ppid] += max(passed.clock_ns, 0)

    def _look_in(self, poll: int, wait: int, pid: int) -> None:
        """Look at the process again in so many polls at most: in one whose turn it is."""
        turn = pid * 0x9E3779B1 >> 16  # PIDs that come together are often of one residue
        self._due.setdefault(poll + wait - (poll + turn) % wait, []).append(pid)

    def _look_again(self, watched: Watched, poll: int) -> bool:
        """Whether a process is still to be watched; its group may be another from now on."""
        self._put_off(watched, poll)
        return self._admission.readmit(watched, asked_for=watched.key.pid in self.always)

    def _put_off(self, watched: Watched, poll: int) -> None:
        """Look at it again after a while."""
        if watched.tables.searching:
            watched.look_wait = 1
        elif watched.tables.known or not self._is_young(watched):
            watched.look_wait = min(watched.look_wait * 2, _LONGEST_WAIT)
        self._look_in(poll, watched.look_wait, watched.key.pid)

    def _is_young(self, watched: Watched) -> bool:
        """Whether it may be about to publish: most do within their first minute, or never."""
        return _now_ticks() - watched.key.start_ticks < _YOUNG_TICKS


def _now_ticks() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // NS_PER_TICK
