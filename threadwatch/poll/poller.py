"""Runs one poll: find, read, join, account, and show it as a View. The only place that knows the order.

A poll is cheap for two reasons: processes that have not run are skipped
(:mod:`threadwatch.threads.idle`), and single threads are shown only while a client asks for them,
because the daemon is for totals by name.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from threadwatch.accounting.account import Account
from threadwatch.config.settings import Config
from threadwatch.discovery.discovery import Discovery
from threadwatch.errors import Gone, ReadError
from threadwatch.handover.inbox import Inbox
from threadwatch.model.view import Host, ProcessView, View
from threadwatch.poll.moment import Moment
from threadwatch.poll.one_process import ProcessPolls
from threadwatch.poll.openings import Openings
from threadwatch.poll.parents import Parents
from threadwatch.poll.process_views import ProcessViews
from threadwatch.poll.stats import PollStats
from threadwatch.poll.throttling import Throttling
from threadwatch.procfs import CgroupTree, ProcFS
from threadwatch.procfs.marks import Lock
from threadwatch.procfs.own import has_schedstat
from threadwatch.reading.reader import GuardedReader, no_thread, owner_of, still_waiting
from threadwatch.targets.process import Process
from threadwatch.threads.idle import IdleProcesses
from threadwatch.threads.reader import ThreadReader
from threadwatch.waits.schedule import Sampling

_Job = int | Process | tuple[Process, int | None]
"""A process to be looked at, by its PID; one whose ended children's clock is to be read; or one to be read,
and its clock."""


class Poller:
    """Polls on request. Not for several threads at once; any thread may use its Views."""

    def __init__(
        self,
        procfs: ProcFS,
        config: Config,
        *,
        report: Callable[[ReadError], None],
        thorough: bool = False,
        inbox: Inbox | None = None,
    ) -> None:
        """``report`` is called with every error that is counted, for the log.

        ``thorough``: a poll may take the time to look through all files of all processes. ``inbox``: the
        tables that processes hand over, where there is a receiver; the poller closes it.
        """
        self._inbox = inbox or Inbox(0)
        self._config = config
        self._errors: list[ReadError] = []
        self._reader = ThreadReader(
            self._errors,
            schedstat=has_schedstat(),
            process_clocks=procfs.same_namespace,
        )
        self._guarded = GuardedReader()
        self._own_pid = os.getpid() if procfs.same_namespace else None
        self._discovery = Discovery(
            procfs, config, self._guarded, self._errors, self._inbox, thorough=thorough
        )
        self._sampling = Sampling(self._errors, self._guarded, self._own_pid)
        self._idle = IdleProcesses(procfs, self._reader.checks, self._sampling.rest)
        self._account = Account(os.cpu_count() or 1)
        self._parents = Parents(procfs, self._discovery, self._reader, self._account)
        self._views = ProcessViews(self._account)
        self._throttling = (
            Throttling(self._account, CgroupTree()) if procfs.same_namespace else None
        )
        self._openings = Openings(self._account, self._parents)
        self._one = ProcessPolls(
            self._errors,
            self._guarded,
            self._idle,
            self._reader,
            self._sampling,
            self._account,
            self._openings,
            self._parents,
        )
        self._stats = PollStats(report)
        self._now = Moment(0, 0, 0)
        self._left_out_in = 0
        """The last poll for which no thread could be started."""

    def always_watch(self, pids: frozenset[int]) -> None:
        """Watch these processes, whatever they run."""
        self._discovery.always_watch(pids)

    @property
    def left_out(self) -> int:
        """Return how many processes are not watched for lack of file descriptors."""
        return len(self._discovery.left_out)

    def reload(self, config: Config | None) -> None:
        """Use another configuration from the next poll on; None: it was bad, and the old one stays."""
        self._stats.reloaded(successful=config is not None)
        if config is not None:
            self._config = config
            self._openings.clear()
            self._discovery.use(config)

    def skip(self, polls: int) -> None:
        """Count polls that were due and are left out."""
        self._stats.skip(polls)

    def close(self) -> None:
        """Let go of all processes."""
        for watched in list(self._discovery.watched.values()):
            self._discovery.drop(watched)
            self._reader.close(watched)
        self._sampling.close()
        self._guarded.close()
        self._inbox.close()

    def next_sample_ns(self, poll_ns: int) -> int | None:
        """Return when :meth:`sample` is due (CLOCK_MONOTONIC); None: not before the next poll.

        ``poll_ns``: when that is due, in which the moments of samples lie.
        """
        return self._sampling.next_ns(poll_ns)

    def sample(self) -> None:
        """Sample what threads wait for, if a sample is due."""
        self._sampling.sample(time.monotonic_ns())

    def sample_for(self, seconds: float, wait: Callable[[float], object] = time.sleep) -> None:
        """Let this time pass by ``wait``, and sample meanwhile; end early if ``wait`` returns True."""
        end_ns = time.monotonic_ns() + round(seconds * 1e9)
        while (now_ns := time.monotonic_ns()) < end_ns:
            due_ns = min(self.next_sample_ns(end_ns) or end_ns, end_ns)
            if wait(max(due_ns - now_ns, 0) / 1e9):
                return
            if due_ns < end_ns:
                self.sample()

    def poll(self, *, details: bool = True, getting_on: Callable[[], object] | None = None) -> View:
        """Read the kernel and the tables, and return the result.

        ``details``: whether the View is to show every single process and thread. ``getting_on``: called
        before each step, which is to look at one process.
        """
        started_ns = time.monotonic_ns()
        cpu_ns = time.thread_time_ns() + self._guarded.cpu_ns
        now = self._now = Moment(self._now.poll + 1, started_ns, self._now.started_ns)
        self._guarded.run_all(
            self._jobs() if getting_on is None else _told(self._jobs(), getting_on),
            self._do,
            self._go_on_without,
            harmless=self._is_our_own,
            left_out=self._put_off,
        )
        self._parents.settle(now.poll, started_ns)
        self._see_held_loops()
        if self._throttling is not None:
            self._throttling.look(self._discovery.watched.values(), started_ns)
        self._stats.count_errors(self._errors)
        self._sampling.choose(self._idle.up(self._discovery.watched), started_ns)
        processes: tuple[ProcessView, ...] = ()
        if details:
            processes = self._views.show(self._discovery.watched.values(), now.poll, now.before_ns)
        else:
            self._views.forget()
        # Time in states is counted from one poll's beginning to the next one's.
        groups = self._account.groups(started_ns)
        self._account.remember(started_ns, self._config.poll_interval_ns)
        cpu_ns = time.thread_time_ns() + self._guarded.cpu_ns - cpu_ns
        self._stats.count(cpu_ns, time.monotonic_ns() - started_ns)
        return View(
            sequence=now.poll,
            time=time.time(),
            monotonic_ns=started_ns,
            boottime_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            interval_ns=self._config.poll_interval_ns,
            details=details,
            history=self._account.history() if details else None,
            processes=processes,
            groups=groups,
            thread_info=self._config.thread_info,
            host=_host() if details else None,
            stats=self._stats.view(
                self._sampling.samples, self._sampling.cpu_ns, self._inbox.results()
            ),
        )

    def _see_held_loops(self) -> None:
        """Charge what has held the loops of processes that rest."""
        for watched in self._sampling.held():
            if watched.last.poll != self._now.poll:
                loops = self._sampling.take_loops(watched)
                if loops:
                    self._account.see_loops(watched.key, loops, self._now.started_ns)

    def _jobs(self) -> Iterator[_Job]:
        """Yield the work of one poll: find processes, then read those that are awake."""
        yield from self._discovery.due(self._now.poll)
        for watched in self._discovery.take_gone():
            self._let_go(watched)
        yield from self._parents.due(self._now.poll, self._now.before_ns)
        awake = self._idle.awake(self._discovery.watched, self._now.poll)
        self._reader.begin(len(awake))
        awake.sort(key=self._is_our_own, reverse=True)
        yield from awake

    def _do(self, job: _Job) -> None:
        before = len(self._errors)
        if isinstance(job, int):
            self._discovery.look_at(job, self._now.poll)
        elif isinstance(job, Process):
            self._read_parent(job)
        else:
            self._poll_one(*job)
        for error in self._errors[before:]:
            error.pid = _pid_of(job)

    def _is_our_own(self, job: _Job) -> bool:
        return _pid_of(job) == self._own_pid

    def _read_parent(self, watched: Process) -> None:
        """Read what the ended children of a process have used."""
        if not self._one.may_read(watched):
            return
        try:
            self._parents.read(watched, self._now.poll)
        except Gone:
            pass  # as this poll will find
        except ReadError as error:
            self._errors.append(error)

    def _poll_one(self, watched: Process, clock_ns: int | None) -> None:
        """Read and charge one process, or let it go."""
        try:
            if self._one.poll(watched, clock_ns, self._now):
                self._discovery.look_soon(watched, self._now.poll)
        except Gone:
            self._discovery.drop(watched)
            self._let_go(watched)

    def _go_on_without(self, job: _Job, lock: Lock) -> None:
        """Leave a process that makes the reading thread wait: what was read of it may be incomplete."""
        if isinstance(job, int):
            self._discovery.go_on_without(job, lock, self._now.poll)
            return
        watched = job if isinstance(job, Process) else job[0]
        self._one.leave_out(watched, self._now)
        self._guarded.give_up(watched.hangs, lock, owner_of(watched.dir), time.monotonic_ns())
        self._errors.append(still_waiting(watched.key.pid, lock))
        watched.rest.disturb()
        watched.threads.distrust()
        watched.threads.show_all_again()
        self._sampling.forget(watched)

    def _put_off(self, job: _Job) -> None:
        """Put off a job for which no thread can be started: the next poll may have one."""
        if isinstance(job, int):
            self._discovery.leave_out(job, self._now.poll)
        elif isinstance(job, tuple):
            self._one.leave_out(job[0], self._now)
        if self._left_out_in != self._now.poll:
            self._left_out_in = self._now.poll
            self._errors.append(no_thread())

    def _let_go(self, watched: Process) -> None:
        self._idle.forget(watched)
        self._openings.close(watched)
        self._sampling.forget(watched, gone=True)
        watched.names.last_words()
        closed = self._account.close(watched.key, self._reader.ended(watched), time.monotonic_ns())
        self._parents.close(watched, closed, self._now.poll, self._now.before_ns)
        self._reader.close(watched)


def _told(jobs: Iterator[_Job], getting_on: Callable[[], object]) -> Iterator[_Job]:
    """Yield the same jobs, and call ``getting_on`` before each."""
    for job in jobs:
        getting_on()
        yield job


def _host() -> Host:
    try:
        load = os.getloadavg()
    except OSError:
        load = None
    return Host(os.uname().nodename, os.cpu_count() or 1, load)


def _pid_of(job: _Job) -> int:
    if isinstance(job, int):
        return job
    return job.key.pid if isinstance(job, Process) else job[0].key.pid
