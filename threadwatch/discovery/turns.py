"""Tells which processes are to be looked at in a poll: new ones, and known ones whose turn has come.

Facts are not read again without a reason. But a process may exec another program, which keeps its PID and
start time, or begin to publish; and a PID may get a new owner. So each process is looked at again after
1, 2, 4 … 32 polls at most. If its CPU clock has not moved, it has done nothing of the kind, and that look
costs one system call. The looks at different processes are spread over the polls.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from threadwatch.discovery.looks import Looks, LookSchedule
from threadwatch.discovery.others import Others
from threadwatch.errors import Gone, ReadError
from threadwatch.model.readings import NS_PER_TICK
from threadwatch.procfs import ProcFS
from threadwatch.targets.process import Process

_FEW_PIDS = 256
"""Up to this many new PIDs are asked for one by one; for more, it is cheaper to list all processes."""
_YOUNG_TICKS = 6000
_LIST_ALL_EVERY = 32
"""Polls after which all processes are listed in any case."""


class Turns:
    """Finds new processes, and keeps the looks at watched ones."""

    def __init__(
        self,
        procfs: ProcFS,
        watched: Mapping[int, Process],
        others: Others,
        errors: list[ReadError],
    ) -> None:
        """``watched``: by PID, kept up to date by the caller."""
        self._procfs = procfs
        self._watched = watched
        self._others = others
        self._errors = errors
        self._looks: dict[int, Looks] = {}
        """The looks at watched processes, by PID."""
        self._schedule = LookSchedule()
        self._last_pid: int | None = None
        self._found_ticks: tuple[int | None, int | None] = (None, None)
        """When new processes were looked for, the time before and now (CLOCK_BOOTTIME)."""
        self._list_all_in = 0

    def due(self, poll: int, handed: set[int]) -> list[int]:
        """Return the PIDs to be looked at in a poll, in this order.

        ``handed``: those of processes that have handed over a table, which are looked at in any case.
        """
        self._found_ticks = self._found_ticks[1], _now_ticks()
        due = self._schedule.take(poll)
        try:
            due.update(self._new_pids(poll))
        except ReadError as error:
            self._errors.append(error)
        due.update(handed)
        # Parents, mostly, before their children.
        return [pid for pid in sorted(due) if pid in handed or not self._rests(pid, poll)]

    def is_newborn(self, start_ticks: int) -> bool:
        """Return whether a process was born after new processes were looked for in the last poll."""
        before_ticks = self._found_ticks[0]
        return before_ticks is not None and start_ticks >= before_ticks

    def judge_all_again(self) -> None:
        """Look in the next poll at all processes, because the configuration is another one."""
        self._judge_others_again()
        self._schedule.clear()
        for watched in self._watched.values():
            self._judge_next(watched)

    def judge_users_again(self, users: set[int]) -> None:
        """Look in the next poll at processes of these users, and at all that are not watched."""
        if not users:
            return
        self._judge_others_again()
        for watched in self._watched.values():
            if watched.facts.uid in users:
                self._judge_next(watched)

    def _judge_others_again(self) -> None:
        self._others.clear()
        self._list_all_in = 0

    def _judge_next(self, watched: Process) -> None:
        """Look at a watched process in the next poll, whether it runs or not."""
        self.of(watched).again()
        watched.rest.disturb()
        self._schedule.at(0, watched.key.pid)

    def of(self, watched: Process) -> Looks:
        """Return the looks at a watched process."""
        return self._looks[watched.key.pid]

    def watch(self, pid: int, looks: Looks) -> None:
        """Keep the looks at a process that is watched from now on."""
        self._looks[pid] = looks

    def drop(self, pid: int) -> None:
        """Forget the looks at a process that is watched no longer."""
        del self._looks[pid]

    def soon(self, watched: Process, poll: int) -> None:
        """Look at a watched process again in the poll after this one, because it has changed."""
        looks = self.of(watched)
        looks.soon()
        looks.again()
        self.next(watched.key.pid, poll)

    def next(self, pid: int, poll: int) -> None:
        """Look at a process in the poll after this one."""
        self._schedule.at(poll + 1, pid)

    def after(self, pid: int, poll: int, wait: int) -> None:
        """Look at a process again after this many polls at most."""
        self._schedule.after(poll, wait, pid)

    def put_off(self, watched: Process, poll: int) -> None:
        """Look at a watched process again after a while."""
        looks = self.of(watched)
        if watched.tables.searching:
            looks.soon()
        elif watched.tables.known or not _is_young(watched):
            looks.later()
        self.after(watched.key.pid, poll, looks.wait)

    def _rests(self, pid: int, poll: int) -> bool:
        """Return whether a known process has not run since the last look; then it has another turn later."""
        watched = self._watched.get(pid)
        if watched is not None:
            if watched.last.clock_ns != self.of(watched).clock_ns:
                return False
            self.put_off(watched, poll)
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
        self.after(pid, poll, looks.wait)
        return True

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
        return [pid for pid in pids if pid not in self._watched and pid not in self._others]


def _is_young(watched: Process) -> bool:
    """Return whether a process may be about to publish: most do within their first minute, or never."""
    return _now_ticks() - watched.key.start_ticks < _YOUNG_TICKS


def _now_ticks() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // NS_PER_TICK
