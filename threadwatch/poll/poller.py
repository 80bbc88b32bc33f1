"""One poll: find, read, join, account, and show it as a View. The only place that knows the order.

What keeps a poll cheap: processes that have not run are skipped (:mod:`threadwatch.threads.idle`), and
nobody's thread is looked at one by one to be shown unless somebody asks for that: totals by name are
what the daemon is for.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import MappingProxyType

from threadwatch.accounting.account import Account
from threadwatch.accounting.group import GroupRules
from threadwatch.config.parse import Config, GroupConfig, NameRule
from threadwatch.discovery.discovery import Discovery
from threadwatch.errors import Gone, ReadError
from threadwatch.labels.groups import ThreadNames, is_fixed
from threadwatch.model.readings import Identity, ProcessReading, Waits
from threadwatch.model.view import POLL_BUCKETS, ProcessView, Stats, View
from threadwatch.poll.parents import Parents
from threadwatch.poll.process_views import ProcessViews
from threadwatch.procfs import ProcFS, parse_schedstat
from threadwatch.procfs.marks import Lock
from threadwatch.reading.reader import GuardedReader, no_thread, owner_of, still_waiting
from threadwatch.targets.process import LastPoll, Membership, Watched
from threadwatch.threads.idle import IdleProcesses
from threadwatch.threads.reader import ThreadReader
from threadwatch.waits.schedule import Sampling

_ASK_AGAIN = 32
"""Polls after which room is looked for again for the group of a process that is charged to ``(other)``."""

_Job = int | Watched | tuple[Watched, int | None]
"""A process to be looked at, by its PID; one whose ended children's clock is to be read; or one to be read,
and its clock."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """The books that a process has been given."""

    membership: Membership
    """The group and rules that it had then."""
    charged_to: str
    """The group that its books are in: ``(other)`` where there is no room for its own."""
    ask_again: int
    """The poll from which on room is to be looked for again, if that is not its own."""


class Poller:
    """Polls when told to. Not for several threads at once; the Views it gives are for everybody."""

    def __init__(
        self,
        procfs: ProcFS,
        config: Config,
        *,
        report: Callable[[ReadError], None],
        thorough: bool = False,
    ) -> None:
        """``report`` hears of every error that is counted, for the log.

        ``thorough``: a poll may take the time to look through all files of all processes.
        """
        self._config = config
        self._report = report
        self._errors: list[ReadError] = []
        self._counts: Counter[tuple[str, str]] = Counter()
        self._reader = ThreadReader(
            self._errors,
            schedstat=_has_schedstat(procfs),
            process_clocks=procfs.same_namespace,
        )
        self._guarded = GuardedReader()
        self._own_pid = os.getpid() if procfs.same_namespace else None
        self._discovery = Discovery(procfs, config, self._guarded, self._errors, thorough=thorough)
        self._sampling = Sampling(self._errors, self._guarded, self._own_pid)
        self._idle = IdleProcesses(procfs, self._reader.checks, self._sampling.forget)
        self._account = Account(os.cpu_count() or 1)
        self._parents = Parents(procfs, self._discovery, self._reader, self._account)
        self._views = ProcessViews(self._account)
        self._names: dict[tuple[NameRule, ...], ThreadNames] = {}
        self._opened: dict[int, _Opened] = {}
        self._polls = 0
        self._left_out_in = 0
        """The last poll for which no thread could be started."""
        self._skipped = 0
        self._started_ns = self._before_ns = 0
        self._cpu_ns = 0
        self._duration_ns = 0
        self._durations = [0] * (len(POLL_BUCKETS) + 1)
        self._reload_successful = True
        self._reload_time = time.time()

    def always_watch(self, pids: frozenset[int]) -> None:
        """Watch these processes, whatever they are."""
        self._discovery.always_watch(pids)

    @property
    def left_out(self) -> int:
        """How many processes are not watched for want of file descriptors."""
        return len(self._discovery.left_out)

    def reload(self, config: Config | None) -> None:
        """Use another configuration from the next poll on; None: it was bad, and the old one stays."""
        self._reload_successful = config is not None
        if config is not None:
            self._reload_time = time.time()
            self._config = config
            self._names.clear()
            self._opened.clear()
            self._discovery.use(config)

    def skip(self, polls: int) -> None:
        """So many polls were due and are left out."""
        self._skipped += polls

    def close(self) -> None:
        """Let go of all processes."""
        for watched in list(self._discovery.watched.values()):
            self._discovery.drop(watched)
            self._reader.close(watched)
        self._sampling.close()
        self._guarded.close()

    def next_sample_ns(self) -> int | None:
        """When :meth:`sample` is due (CLOCK_MONOTONIC); None: not before the next poll."""
        return self._sampling.next_ns()

    def sample(self) -> None:
        """See what threads wait for, where that is due."""
        self._sampling.sample(time.monotonic_ns())

    def sample_for(self, seconds: float, wait: Callable[[float], object] = time.sleep) -> None:
        """Let time pass by ``wait``, until that says that it is enough, and sample meanwhile."""
        end_ns = time.monotonic_ns() + round(seconds * 1e9)
        while (now_ns := time.monotonic_ns()) < end_ns:
            due_ns = min(self.next_sample_ns() or end_ns, end_ns)
            if wait(max(due_ns - now_ns, 0) / 1e9):
                return
            if due_ns < end_ns:
                self.sample()

    def poll(self, *, details: bool = True, getting_on: Callable[[], object] | None = None) -> View:
        """Read the kernel and the tables, and say how things stand.

        ``details``: whether the View is to show every single process and thread. ``getting_on``: called
        before each step, which is to look at one process.
        """
        started_ns = time.monotonic_ns()
        cpu_ns = time.thread_time_ns() + self._guarded.cpu_ns
        self._before_ns, self._started_ns = self._started_ns, started_ns
        self._polls += 1
        self._guarded.run_all(
            self._jobs() if getting_on is None else _told(self._jobs(), getting_on),
            self._do,
            self._go_on_without,
            harmless=self._is_our_own,
            left_out=self._put_off,
        )
        self._parents.settle(self._polls, started_ns)
        self._count_errors()
        self._sampling.choose(self._discovery.watched.values(), started_ns)
        processes: tuple[ProcessView, ...] = ()
        if details:
            processes = self._views.show(
                self._discovery.watched.values(), self._polls, self._before_ns
            )
        else:
            self._views.forget()
        # time in states is counted from one poll's beginning to the next one's
        groups = self._account.groups(started_ns)
        self._account.remember(started_ns, self._config.poll_interval_ns)
        now_ns = time.monotonic_ns()
        self._cpu_ns += time.thread_time_ns() + self._guarded.cpu_ns - cpu_ns
        self._duration_ns += now_ns - started_ns
        self._durations[bisect_left(POLL_BUCKETS, (now_ns - started_ns) / 1e9)] += 1
        return View(
            sequence=self._polls,
            time=time.time(),
            monotonic_ns=started_ns,
            boottime_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            interval_ns=self._config.poll_interval_ns,
            details=details,
            history=self._account.history() if details else None,
            processes=processes,
            groups=groups,
            thread_info=self._config.thread_info,
            stats=Stats(
                polls=self._polls,
                polls_skipped=self._skipped,
                poll_cpu_ns=self._cpu_ns,
                poll_duration_ns=self._duration_ns,
                poll_durations=tuple(self._durations),
                samples=self._sampling.samples,
                sample_cpu_ns=self._sampling.cpu_ns,
                read_errors=MappingProxyType(dict(self._counts)),
                reload_successful=self._reload_successful,
                reload_success_time=self._reload_time,
            ),
        )

    def _jobs(self) -> Iterator[_Job]:
        """What is to be done with processes in one poll: find some, then read those that are awake."""
        yield from self._discovery.due(self._polls)
        for watched in self._discovery.take_gone():
            self._let_go(watched)
        yield from self._parents.due(self._polls, self._before_ns)
        awake = self._idle.awake(self._discovery.watched.values(), self._polls)
        self._reader.begin(len(awake))
        awake.sort(key=self._is_our_own, reverse=True)
        yield from awake

    def _do(self, job: _Job) -> None:
        before = len(self._errors)
        if isinstance(job, int):
            self._discovery.look_at(job, self._polls)
        elif isinstance(job, Watched):
            self._read_parent(job)
        else:
            self._poll_one(*job)
        for error in self._errors[before:]:
            error.pid = _pid_of(job)

    def _is_our_own(self, job: _Job) -> bool:
        return _pid_of(job) == self._own_pid

    def _read_parent(self, watched: Watched) -> None:
        """Read what the ended children of a process have used."""
        if not self._may_read(watched):
            return
        try:
            self._parents.read(watched, self._polls)
        except Gone:
            pass  # as this poll will find
        except ReadError as error:
            self._errors.append(error)

    def _may_read(self, watched: Watched) -> bool:
        return self._guarded.may_read(
            watched.hangs, "exec", lambda: owner_of(watched.dir), time.monotonic_ns()
        )

    def _poll_one(self, watched: Watched, clock_ns: int | None) -> None:
        """Read and charge one process, or let it go."""
        try:
            if clock_ns is None:
                clock_ns = self._idle.look(watched, self._polls)
                if clock_ns is None:
                    return
            if clock_ns == watched.last.clock_ns and watched.rest.at_rest:
                if self._reader.checks.stands_still(watched, self._polls):
                    return
                watched.rest.disturb()
            self._poll_process(watched, clock_ns)
        except Gone:
            self._discovery.drop(watched)
            self._let_go(watched)
        except ReadError as error:
            self._leave_out(watched)
            self._errors.append(error)

    def _leave_out(self, watched: Watched) -> None:
        """It may run, but is not read in this poll: what it uses from here on is seen in a later one."""
        last, since_ns = watched.last, watched.last.since_ns
        if last.left_out != self._polls - 1:
            since_ns = self._before_ns if last.poll != self._polls - 1 else last.time_ns
        watched.last = last._replace(since_ns=since_ns, left_out=self._polls)

    def _go_on_without(self, job: _Job, lock: Lock) -> None:
        """A process keeps the reading thread waiting: what was read of it may have been read by half."""
        if isinstance(job, int):
            self._discovery.go_on_without(job, lock, self._polls)
            return
        watched = job if isinstance(job, Watched) else job[0]
        self._leave_out(watched)
        self._guarded.give_up(watched.hangs, lock, owner_of(watched.dir), time.monotonic_ns())
        self._errors.append(still_waiting(watched.key.pid, lock))
        watched.rest.disturb()
        watched.threads.distrust()
        watched.threads.show_all_again()
        self._sampling.forget(watched)

    def _put_off(self, job: _Job) -> None:
        """No thread can be started to do it: that may be otherwise in the next poll."""
        if isinstance(job, int):
            self._discovery.leave_out(job, self._polls)
        elif isinstance(job, tuple):
            self._leave_out(job[0])
        if self._left_out_in != self._polls:
            self._left_out_in = self._polls
            self._errors.append(no_thread())

    def _poll_process(self, watched: Watched, clock_ns: int) -> None:
        """Read and charge one process."""
        if clock_ns < 0:
            raise Gone
        if not self._may_read(watched):
            self._leave_out(watched)
            return
        now_ns = time.monotonic_ns()
        last, book = watched.last, watched.threads
        at_rest = clock_ns == last.clock_ns and not book.show_again
        self._open(watched, now_ns)
        reading = self._reader.read(
            watched, clock_ns, lambda: self._idle.clock_ns(watched), self._polls
        )
        waits, all_seen = self._waits(watched, at_rest=at_rest)
        user_ticks, system_ticks = book.ticks
        self._account.charge(
            ProcessReading(
                key=watched.key,
                time_ns=self._started_ns,
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
            )
        )
        self._parents.see(watched, self._polls)
        if last.left_out == self._polls - 1:
            before_ns = last.since_ns
        else:
            before_ns = last.time_ns if last.poll == self._polls - 1 else 0
        watched.last = LastPoll(
            last.met or self._polls,
            self._polls,
            clock_ns,
            now_ns,
            before_ns,
            last.since_ns,
            last.left_out,
        )
        self._idle.weigh_timer(watched, self._polls)
        watched.rest.settle(at_rest=at_rest and reading.complete and all_seen)
        if reading.names_lost:
            self._discovery.look_soon(watched, self._polls)

    def _waits(
        self, watched: Watched, *, at_rest: bool
    ) -> tuple[dict[Identity, Waits] | None, bool]:
        """What the process's threads wait for, as far as it is known; and whether it is of all.

        None: the process is not sampled.
        """
        waits = self._sampling.take(watched)
        if waits is None:
            return None, True
        looked, all_seen = self._reader.looks.choose(watched, at_rest=at_rest)
        seen = self._sampling.look(watched, [known.tid for known in looked], self._started_ns)
        for identity, now in seen.items():
            before = waits.get(identity)
            waits[identity] = now if before is None else replace(before, state=now.state)
        return waits, all_seen

    def _open(self, watched: Watched, now_ns: int) -> None:
        """See that the account has the process, in its present group."""
        present = watched.membership
        opened = self._opened.get(watched.key.pid)
        if opened is None or opened.membership is not present:
            opened = None
            self._parents.open(watched, self._started_ns, self._before_ns)
        elif opened.charged_to == present.group or self._polls < opened.ask_again:
            return
        charged_to = self._charge_to_group(watched, now_ns)
        self._opened[watched.key.pid] = _Opened(present, charged_to, self._polls + _ASK_AGAIN)
        if opened is not None and opened.charged_to == charged_to:
            return
        watched.threads.show_all_again()  # their labels may be others now
        watched.threads.look_at_all_again()  # and so may be whether they are looked at

    def _charge_to_group(self, watched: Watched, now_ns: int) -> str:
        """Open its books in its group, or in the group ``(other)``; the name of the one that it is."""
        member = watched.membership
        rules = self._rules_of(member.config)
        return self._account.open(watched.key, member.group, rules, now_ns, watched.facts.uid)

    def _rules_of(self, config: GroupConfig) -> GroupRules:
        threads = config.threads
        names = self._names.setdefault(threads.rules, ThreadNames(threads.rules))
        return GroupRules(
            threads.per,
            threads.cap,
            names.series_name,
            config.expire_after_ns,
            fixed=is_fixed(config.name),
        )

    def _let_go(self, watched: Watched) -> None:
        self._opened.pop(watched.key.pid, None)
        self._sampling.forget(watched, gone=True)
        watched.names.last_words()
        closed = self._account.close(watched.key, self._reader.ended(watched), time.monotonic_ns())
        self._parents.close(watched, closed, self._polls, self._before_ns)
        self._reader.close(watched)

    def _count_errors(self) -> None:
        for error in self._errors:
            self._counts[error.source, error.reason] += 1
            self._report(error)
        self._errors.clear()


def _told(jobs: Iterator[_Job], getting_on: Callable[[], object]) -> Iterator[_Job]:
    """Give the same jobs, and call ``getting_on`` before each."""
    for job in jobs:
        getting_on()
        yield job


def _pid_of(job: _Job) -> int:
    if isinstance(job, int):
        return job
    return job.key.pid if isinstance(job, Watched) else job[0].key.pid


def _has_schedstat(procfs: ProcFS) -> bool:
    """Whether the kernel counts run times for us: without CONFIG_SCHED_INFO all is zero or absent."""
    try:
        process = procfs.open_process(os.getpid())
    except (Gone, ReadError):
        return True  # a captured tree, or another namespace's procfs: we are not in it
    try:
        return parse_schedstat(process.read("schedstat", "schedstat"))[0] > 0
    except (Gone, ReadError):
        return False
    finally:
        process.close()
