"""Polls one process: reads its threads, joins what samples have seen of them, and charges all that."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from threadwatch.accounting.account import Account
from threadwatch.errors import Gone, ReadError
from threadwatch.model.readings import Identity, ProcessReading, Waits
from threadwatch.poll.moment import Moment
from threadwatch.poll.openings import Openings
from threadwatch.poll.parents import Parents
from threadwatch.reading.reader import GuardedReader, owner_of
from threadwatch.targets.process import LastPoll, Process
from threadwatch.threads.idle import IdleProcesses
from threadwatch.threads.reader import NOTHING_NEW, ThreadReader
from threadwatch.waits.schedule import Sampling


@dataclass(frozen=True, slots=True)
class ProcessPolls:
    """Polls one process after the other. ``_errors`` collects what could not be read."""

    _errors: list[ReadError]
    _guarded: GuardedReader
    _idle: IdleProcesses
    _reader: ThreadReader
    _sampling: Sampling
    _account: Account
    _openings: Openings
    _parents: Parents

    def may_read(self, watched: Process) -> bool:
        """Return whether to read in a process; False if that has made us wait."""
        return self._guarded.may_read(
            watched.hangs, "exec", lambda: owner_of(watched.dir), time.monotonic_ns()
        )

    def poll(self, watched: Process, clock_ns: int | None, now: Moment) -> bool:
        """Read and charge a process, if it is awake; return whether its source of names was lost.

        ``clock_ns``: its clock; None: not read yet.

        :raises Gone: the process has ended.
        """
        try:
            if clock_ns is None:
                clock_ns = self._idle.look(watched, now.poll)
                if clock_ns is None:
                    return False
            if clock_ns == watched.last.clock_ns and watched.rest.at_rest:
                if self._reader.checks.stands_still(watched, now.poll):
                    return False
                watched.rest.disturb()
            return self._charge(watched, clock_ns, now)
        except ReadError as error:
            self.leave_out(watched, now)
            self._errors.append(error)
            return False

    def leave_out(self, watched: Process, now: Moment) -> None:
        """Note that a process may run, but is not read in this poll: a later one sees what it uses."""
        last, since_ns = watched.last, watched.last.since_ns
        if last.left_out != now.poll - 1:
            since_ns = now.before_ns if last.poll != now.poll - 1 else last.time_ns
        watched.last = last._replace(since_ns=since_ns, left_out=now.poll)

    def _charge(self, watched: Process, clock_ns: int, now: Moment) -> bool:
        if clock_ns < 0:
            raise Gone
        if not self.may_read(watched):
            self.leave_out(watched, now)
            return False
        now_ns = time.monotonic_ns()
        last, book = watched.last, watched.threads
        at_rest = clock_ns == last.clock_ns and not book.show_again
        self._openings.open(watched, now, now_ns)
        if at_rest and watched.rest.read_whole:
            reading = NOTHING_NEW
        else:
            reading = self._reader.read(
                watched, clock_ns, lambda: self._idle.clock_ns(watched), now.poll
            )
        waits, all_seen = self._waits(watched, now, at_rest=at_rest)
        user_ticks, system_ticks = book.ticks
        self._account.charge(
            ProcessReading(
                key=watched.key,
                time_ns=now.started_ns,
                clock_ns=clock_ns,
                user_ticks=user_ticks,
                system_ticks=system_ticks,
                threads=reading.threads,
                times=reading.times,
                ended=reading.ended,
                living=reading.living,
                waits=waits,
                has_gil=bool(watched.names.gils),
                unread_ns=reading.unread_ns,
                behind=reading.behind,
                names_from=watched.names.names_from,
                python=watched.names.python,
                loops=self._sampling.take_loops(watched),
            )
        )
        self._parents.see(watched, now.poll)
        if last.left_out == now.poll - 1:
            before_ns = last.since_ns
        else:
            before_ns = last.time_ns if last.poll == now.poll - 1 else 0
        watched.last = LastPoll(
            last.met or now.poll,
            now.poll,
            clock_ns,
            now_ns,
            before_ns,
            last.since_ns,
            last.left_out,
        )
        self._idle.weigh_timer(watched, now.poll)
        watched.rest.settle(read_whole=at_rest and reading.complete, looked=all_seen)
        return reading.names_lost

    def _waits(
        self, watched: Process, now: Moment, *, at_rest: bool
    ) -> tuple[dict[Identity, Waits] | None, bool]:
        """Return what the process's threads wait for, as far as known, and whether that covers all threads.

        None: the process is not sampled.
        """
        waits = self._sampling.take(watched, now.started_ns)
        if waits is None:
            return None, True
        looked, all_seen = self._reader.looks.choose(watched, at_rest=at_rest)
        seen = self._sampling.look(watched, [known.tid for known in looked], now.started_ns)
        for identity, latest in seen.items():
            before = waits.get(identity)
            waits[identity] = latest if before is None else replace(before, state=latest.state)
        return waits, all_seen
