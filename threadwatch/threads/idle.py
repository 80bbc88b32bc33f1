"""Finds the processes that are awake, and keeps the others cheap to watch.

A process whose CPU clock stands still has not run. So nothing about it can have changed, except
that its threads may have become runnable. It is skipped whole, for one system call; a few of its
threads are still read once in a while. A process that rests for long is *asleep*: of those, a poll touches
nothing but the numbers in one dictionary, because memory that was last touched a poll ago is cold (with 1,000
processes of 10 threads asleep, touching the objects of each made up a tenth of a poll).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

from threadwatch.model.readings import NS_PER_TICK
from threadwatch.procfs import ProcFS, parse_stat
from threadwatch.targets.process import Process
from threadwatch.targets.rest import Rest
from threadwatch.threads.checks import Checks

_REST = 16
"""Polls without running after which a process is prepared to rest for long."""
_MANY = 64
"""From this many threads for each that runs, a process's clock is worth a timer; half as many keep it."""
_TIMER_AGAIN = 512
"""Polls after which a timer that the kernel has refused is tried again."""


class IdleProcesses:
    """Tells which processes are awake, poll after poll."""

    def __init__(self, procfs: ProcFS, checks: Checks, rested: Callable[[Process], object]) -> None:
        """``rested`` is called when a process has come to rest for long: to close its files."""
        self._procfs = procfs
        self._checks = checks
        self._rested = rested
        self._asleep: dict[int, int] = {}
        """By PID: the clocks of processes that rest for long. One whose clock has moved is taken out."""
        self._check_in: dict[int, list[int]] = {}
        """By poll: the PIDs of processes that are asleep, and are to be checked then."""

    def awake(
        self, processes: Mapping[int, Process], poll: int
    ) -> list[tuple[Process, int | None]]:
        """Return the processes that have to be read, and their clocks: all that a poll costs for the others.

        ``processes``: all that are watched, by PID. A clock of -1 means that the process has gone; for None,
        call :meth:`look`.
        """
        if not self._procfs.same_namespace:
            return [(watched, None) for watched in processes.values()]
        self._rouse(poll)
        awake: list[tuple[Process, int | None]] = []
        clock = time.clock_gettime_ns
        for watched in self.up(processes):
            try:
                # As in ProcFS.process_clock_ns, whose call would take as long as the clock itself.
                clock_ns = clock((~watched.key.pid << 3) | 2)
            except OSError:
                clock_ns = -1
            rest = watched.rest
            rested = rest.rested
            if clock_ns != watched.last.clock_ns or not rest.at_rest:
                if rested:
                    _wake(rest)
                awake.append((watched, clock_ns))
            elif rested >= _REST and poll < rest.check_in:
                self._put_to_sleep(watched, clock_ns)
            elif not self._goes_on(watched, rest, poll):
                awake.append((watched, clock_ns))
        return awake

    def up(self, processes: Mapping[int, Process]) -> list[Process]:
        """Return the processes that are not asleep."""
        asleep = self._asleep
        return [watched for pid, watched in processes.items() if pid not in asleep]

    def look(self, watched: Process, poll: int) -> int | None:
        """Return the clock of a process that may be awake, where it has to be read; None: it rests.

        Raises :class:`~threadwatch.errors.Gone` and other errors of reading.
        """
        clock_ns = self.clock_ns(watched)
        return None if self._rests(watched, clock_ns, poll) else clock_ns

    def clock_ns(self, watched: Process) -> int:
        """Return the process clock; in steps of a tick if another PID namespace's procfs shows it."""
        if self._procfs.same_namespace:
            return self._procfs.process_clock_ns(watched.key.pid)
        stat = parse_stat(watched.dir.read("stat", "stat"))
        return (stat.user_ticks + stat.system_ticks) * NS_PER_TICK

    def weigh_timer(self, watched: Process, poll: int) -> None:
        """Make the process's clock cheap if few of its threads run, or stop that if many do."""
        book, rest = watched.threads, watched.rest
        for_each = len(book.known) // max(len(book.hot), 1)
        if rest.timer is not None:
            if for_each < _MANY // 2:
                rest.close()
        elif (
            for_each >= _MANY
            and self._procfs.same_namespace
            and poll >= max(rest.timer_from, watched.last.met + _REST)
        ):
            try:
                rest.start_timer(watched.key.pid)
            except OSError:
                rest.timer_from = poll + _TIMER_AGAIN

    def forget(self, watched: Process) -> None:
        """Forget a process that is no longer watched."""
        self._asleep.pop(watched.key.pid, None)

    def _put_to_sleep(self, watched: Process, clock_ns: int) -> None:
        """Look only at a process's clock from now on, until it is to be checked, or is disturbed."""
        pid, rest = watched.key.pid, watched.rest
        self._asleep[pid] = clock_ns
        self._check_in.setdefault(rest.check_in, []).append(pid)
        rest.roused = partial(self._asleep.pop, pid, None)

    def _rouse(self, poll: int) -> None:
        """Count processes no longer as asleep if their clocks have moved, or they are to be checked."""
        asleep = self._asleep
        for pid in self._check_in.pop(poll, ()):
            asleep.pop(pid, None)
        clock = time.clock_gettime_ns
        roused = []
        # The one loop that runs for each process at rest.
        for pid, clock_ns in asleep.items():
            try:
                if clock((~pid << 3) | 2) == clock_ns:
                    continue
            except OSError:
                pass  # the process has gone
            roused.append(pid)
        for pid in roused:
            del asleep[pid]

    def _rests(self, watched: Process, clock_ns: int, poll: int) -> bool:
        """Return whether nothing is to be read of a process in this poll."""
        rest = watched.rest
        if clock_ns == watched.last.clock_ns and rest.at_rest:
            return self._goes_on(watched, rest, poll)
        if rest.rested:
            _wake(rest)
        return False

    def _goes_on(self, watched: Process, rest: Rest, poll: int) -> bool:
        """Count a poll of rest; return whether nothing has to be read even so."""
        rested = rest.rested = rest.rested + 1
        if rested == _REST:
            self._lay_to_rest(watched, poll)
        return rested <= _REST or poll < rest.check_in

    def _lay_to_rest(self, watched: Process, poll: int) -> None:
        """Prepare a process for a long rest: make that cheap."""
        self._rested(watched)
        self._checks.lay_to_rest(watched, poll)
        watched.rest.close()  # a timer begun while a thread ran may lack its last CPU time
        self.weigh_timer(watched, poll)


def _wake(rest: Rest) -> None:
    """Note that a process no longer rests."""
    rest.disturb()
    rest.rested = 0
