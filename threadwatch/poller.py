"""One poll: find, read, join, account, and show it as a View. The only place that knows the order.

What keeps a poll cheap: a process whose CPU clock stands still has not run, so nothing about it can
have changed, but that its threads may have become runnable. It is skipped whole, for one system
call, and read once in a while all the same.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

from threadwatch.account import Account, GroupRules
from threadwatch.config import Config, GroupConfig, NameRule
from threadwatch.discover import Discovery
from threadwatch.errors import Gone, ReadError
from threadwatch.model import POLL_BUCKETS, ProcessView, Stats, ThreadView, View
from threadwatch.names import ThreadNames
from threadwatch.procfs import ProcFS, parse_schedstat, parse_stat
from threadwatch.samples import NS_PER_TICK, ProcessSample
from threadwatch.threads import ThreadReader
from threadwatch.watched import Watched


class Poller:
    """Polls when told to. Not for several threads at once; the Views it gives are for everybody."""

    def __init__(
        self, procfs: ProcFS, config: Config, *, report: Callable[[ReadError], None]
    ) -> None:
        """``report`` hears of every error that is counted, for the log."""
        self._procfs = procfs
        self._config = config
        self._report = report
        self._errors: list[ReadError] = []
        self._counts: Counter[tuple[str, str]] = Counter()
        self._reader = ThreadReader(
            self._errors,
            schedstat=_has_schedstat(procfs),
            process_clocks=procfs.same_namespace,
        )
        self._discovery = Discovery(procfs, config, self._reader, self._errors)
        self._account = Account()
        self._names: dict[tuple[NameRule, ...], ThreadNames] = {}
        self._opened: dict[int, tuple[str, GroupConfig]] = {}
        self._polls = 0
        self._started_ns = 0
        self._cpu_ns = 0
        self._duration_ns = 0
        self._durations = [0] * (len(POLL_BUCKETS) + 1)
        self._reload_successful = True
        self._reload_time = time.time()

    def always_watch(self, pids: frozenset[int]) -> None:
        """Watch these processes, whatever they are."""
        self._discovery.always = pids

    def reload(self, config: Config | None) -> None:
        """Use another configuration from the next poll on; None: it was bad, and the old one stays."""
        self._reload_successful = config is not None
        if config is not None:
            self._reload_time = time.time()
            self._config = config
            self._names.clear()
            self._opened.clear()
            self._discovery.use(config)

    def close(self) -> None:
        """Let go of all processes."""
        for watched in self._discovery.watched.values():
            self._reader.close(watched)
        self._discovery.watched.clear()

    def poll(self) -> View:
        """Read the kernel and the tables, and say how things stand."""
        started_ns, cpu_ns = time.monotonic_ns(), time.thread_time_ns()
        before_ns, self._started_ns = self._started_ns, started_ns
        self._polls += 1
        for watched in self._discovery.scan(self._polls):
            self._let_go(watched)
        for watched, clock_ns in self._awake():
            try:
                self._poll_process(watched, clock_ns, before_ns)
            except Gone:
                del self._discovery.watched[watched.key.pid]
                self._let_go(watched)
            except ReadError as error:
                self._errors.append(error)
        self._count_errors()
        now_ns = time.monotonic_ns()
        groups = self._account.groups(now_ns)
        self._cpu_ns += time.thread_time_ns() - cpu_ns
        self._duration_ns += now_ns - started_ns
        self._durations[bisect_left(POLL_BUCKETS, (now_ns - started_ns) / 1e9)] += 1
        return View(
            sequence=self._polls,
            time=time.time(),
            monotonic_ns=now_ns,
            processes=tuple(w.view for w in self._discovery.watched.values() if w.view is not None),
            groups=groups,
            thread_info=self._config.thread_info,
            stats=Stats(
                polls=self._polls,
                poll_cpu_ns=self._cpu_ns,
                poll_duration_ns=self._duration_ns,
                poll_durations=tuple(self._durations),
                read_errors=MappingProxyType(dict(self._counts)),
                reload_successful=self._reload_successful,
                reload_success_time=self._reload_time,
            ),
        )

    def _awake(self) -> list[tuple[Watched, int]]:
        """The processes that have to be read, and their clocks: all that a poll costs for the others.

        A clock of -1 is that of a process that has gone.
        """
        awake = []
        same_namespace = self._procfs.same_namespace
        clock = time.clock_gettime_ns
        for pid, watched in self._discovery.watched.items():
            try:
                # as in ProcFS.process_clock_ns, whose call would cost as much as the clock itself
                clock_ns = clock((~pid << 3) | 2) if same_namespace else self._ticks_ns(watched)
            except (OSError, Gone):
                clock_ns = -1
            if (
                clock_ns != watched.clock_ns
                or not watched.settled
                or self._polls >= watched.read_all_in
            ):
                awake.append((watched, clock_ns))
        return awake

    def _poll_process(self, watched: Watched, clock_ns: int, before_ns: int) -> None:
        """Read and charge one process. ``before_ns`` is when the last poll began."""
        if clock_ns < 0:
            raise Gone
        now_ns = time.monotonic_ns()
        at_rest = clock_ns == watched.clock_ns and not watched.unsettled
        self._open(watched, now_ns)
        process = parse_stat(watched.dir.read("stat", "stat"))
        reading = self._reader.read(
            watched, process, clock_ns, lambda: self._clock_ns(watched), self._polls
        )
        # a process that was at rest in the last poll has used what it has since then
        since_ns = watched.time_ns if watched.polled == self._polls - 1 else before_ns
        elapsed_ns = None if watched.clock_ns < 0 else max(now_ns - since_ns, 1)
        shown = self._account.charge(
            ProcessSample(
                key=watched.key,
                time_ns=now_ns,
                clock_ns=clock_ns,
                user_ticks=process.user_ticks,
                system_ticks=process.system_ticks,
                threads=reading.threads,
                ended=reading.ended,
                resting=reading.resting,
                unread_ns=reading.unread_ns,
            ),
            elapsed_ns,
            published=watched.has_table,
        )
        gained_ns = max(clock_ns - watched.clock_ns, 0)
        watched.view = _process_view(
            watched,
            cpu_ns=clock_ns,
            cpu_ratio=gained_ns / elapsed_ns if elapsed_ns else None,
            threads=_merge(watched, shown),
        )
        watched.clock_ns, watched.time_ns = clock_ns, now_ns
        watched.polled, watched.settled = self._polls, at_rest
        if watched.has_lost_table:
            watched.has_lost_table = False
            self._discovery.look_soon(watched, self._polls)

    def _clock_ns(self, watched: Watched) -> int:
        if self._procfs.same_namespace:
            return self._procfs.process_clock_ns(watched.key.pid)
        return self._ticks_ns(watched)

    def _ticks_ns(self, watched: Watched) -> int:
        """The process clock as another PID namespace's procfs shows it, in steps of a tick."""
        stat = parse_stat(watched.dir.read("stat", "stat"))
        return (stat.user_ticks + stat.system_ticks) * NS_PER_TICK

    def _open(self, watched: Watched, now_ns: int) -> None:
        """See that the account has the process, in its present group."""
        present = (watched.group, watched.config)
        if self._opened.get(watched.key.pid) == present:
            return
        self._opened[watched.key.pid] = present
        watched.unsettled.update(watched.known)  # their labels may be others now
        self._account.open(watched.key, watched.group, self._rules_of(watched.config), now_ns)

    def _rules_of(self, config: GroupConfig) -> GroupRules:
        threads = config.threads
        names = self._names.setdefault(threads.rules, ThreadNames(threads.rules))
        return GroupRules(threads.per, threads.cap, names.series_name, config.expire_after_ns)

    def _let_go(self, watched: Watched) -> None:
        self._opened.pop(watched.key.pid, None)
        if watched.has_table:
            watched.published.last_words()
        self._account.close(watched.key, self._reader.ended(watched), time.monotonic_ns())
        self._reader.close(watched)

    def _count_errors(self) -> None:
        for error in self._errors:
            self._counts[error.source, error.reason] += 1
            self._report(error)
        self._errors.clear()


def _merge(watched: Watched, shown: tuple[ThreadView, ...]) -> tuple[ThreadView, ...]:
    """The views of all threads: those that are new, and those from before, now at rest."""
    views = watched.thread_views
    for tid in watched.lively.difference(view.tid for view in shown):
        if tid in views:
            views[tid] = replace(views[tid], cpu_ratio=0.0)
    watched.lively = {view.tid for view in shown if view.cpu_ratio != 0}
    count = len(views)
    views.update((view.tid, view) for view in shown)
    if len(views) != len(watched.known):
        for tid in views.keys() - watched.known.keys():
            del views[tid]
    if len(views) > count:
        watched.thread_views = views = dict(sorted(views.items()))
    return tuple(views.values())


def _process_view(
    watched: Watched, *, cpu_ns: int, cpu_ratio: float | None, threads: tuple[ThreadView, ...]
) -> ProcessView:
    header = watched.published.header
    return ProcessView(
        key=watched.key,
        ppid=watched.ppid,
        uid=watched.uid,
        group=watched.group,
        comm=watched.comm,
        cmdline=watched.cmdline,
        implementation=header.implementation if header else None,
        version=header.python if header else None,
        free_threaded=header.free_threaded if header else None,
        published=watched.has_table,
        cpu_ns=cpu_ns,
        cpu_ratio=cpu_ratio,
        threads=threads,
    )


def _has_schedstat(procfs: ProcFS) -> bool:
    """Whether the kernel counts run times for us: without CONFIG_SCHED_INFO all is zero or absent."""
    try:
        process = procfs.open_process(os.getpid())
    except (Gone, ReadError):
        return True  # a captured tree, or another namespace's procfs: we are not in it
    try:
        return parse_schedstat(process.read("schedstat", "schedstat")).cpu_ns > 0
    except (Gone, ReadError):
        return False
    finally:
        process.close()
