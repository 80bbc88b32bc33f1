"""Reads the threads of a process from the kernel, at a cost that follows how many of them run.

How: the process's CPU clock, one system call, counts all its threads. Each poll reads the clocks of
the few threads that have run lately (they are *hot*). What the process clock has gained beyond theirs
(the *residual*) was used by threads that are not hot, or have been born or have ended. As long as
it is next to nothing, nobody else needs to be read; once it is not, all are, and who has run becomes
hot. The residual is the difference of two sums over whole lives, so a slow leak adds up until it
is found. The clock is read first, and the kernel books it and the threads' clocks at the same moments, so
it is never ahead of threads that have been read.

Births and ends show in the number of threads, in the published tables, and in the residual; then the
list of threads is read, and only those that are new in it. A process that has come to rest is read
whole once more, so that what is shown of it at rest is exact; and so is, whenever it is awake, one
with few threads, because that costs less than to find out that it is needless.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from threadwatch.errors import Gone, ReadError
from threadwatch.procfs import (
    Stat,
    decode_comm,
    parse_io,
    parse_schedstat,
    parse_stat,
    parse_status,
)
from threadwatch.published import TableSlot
from threadwatch.samples import NS_PER_TICK, EndedThread, ThreadSample
from threadwatch.watched import Known, Watched

_RESIDUAL_NS = 500_000
"""CPU time whose owner need not be looked for yet."""
_COOL_AFTER = 10
"""Polls without running after which a thread is no longer hot."""
_FEW = 32
"""So few threads are all read in every poll of an awake process."""
_READ_ALL_EVERY = 64
_READ_ALL_AT_REST = 512
"""Polls after which all threads are read whatever the clocks say; each process has its own turn."""
_STATS_PER_POLL = 512
"""How many hot threads of a process are read in full in one poll. The rest take turns: their CPU
time is exact in every poll, their state and faults as of their last turn."""
_KEPT_FILES = 4096
"""Files of hot threads that are kept open at most, each of which costs the kernel 4 KiB."""
_JUST_BORN_TICKS = 30
"""A thread publishes itself within so many ticks, even where many want the GIL."""
_TAIL_NS = 5_000
"""What a thread uses at least after its end was published."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one poll has read of a process's threads; as in :class:`threadwatch.samples.ProcessSample`."""

    threads: tuple[ThreadSample, ...]
    ended: tuple[EndedThread, ...]
    resting: frozenset[tuple[int, int]] | None
    unread_ns: int


class ThreadReader:
    """Reads the threads of watched processes, one process at a time.

    ``errors`` collects what could not be read: the thread is left out, or the field is None.
    ``exact``: whether the kernel keeps schedstat, and process clocks can be asked for; without them
    every thread of an awake process is read in every poll.
    """

    def __init__(self, errors: list[ReadError], *, schedstat: bool, process_clocks: bool) -> None:
        self._errors = errors
        self._schedstat = schedstat
        self._residuals = schedstat and process_clocks
        self._kept = 0
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._keep = min(soft // 8, _KEPT_FILES)

    def read(
        self, watched: Watched, process: Stat, clock_ns: int, clock: Callable[[], int], poll: int
    ) -> Reading:
        """Read what may have changed since the last time.

        ``process`` is the process's own stat and ``clock_ns`` its clock, just read; ``clock`` reads it
        again. Raises :class:`Gone` when the process has ended.
        """
        errors = len(self._errors)
        ran, lost = self._read_hot(watched)
        listed = lost or process.num_threads != len(watched.known)
        if listed:
            ran |= self._read_list(watched, poll)
        self._read_stats(watched, ran, poll)
        # The tables come after the threads: one that was seen has published itself by now, and one
        # that has ended since has left its name behind.
        renamed = self._update_tables(watched)
        ended = self.ended(watched)
        self._explain(watched, ended)
        unread_ns = _RESIDUAL_NS
        if self._must_read_all(watched, process, clock_ns, poll):
            unread_ns = 0
            more = self._read_all(watched, ran, clock, poll, at_rest=clock_ns == watched.clock_ns)
            listed = True
            self._read_stats(watched, more - ran, poll)
            ran |= more
        if listed or not renamed <= watched.known.keys():
            ran |= self._read_list(watched, poll) if not listed else set()
            listed = True
            renamed |= self._update_tables(watched)
            ended += self.ended(watched)
        if clock_ns == watched.clock_ns:
            self._cool(watched)
        else:
            self._heat(watched, ran, poll)
        now_ticks = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // NS_PER_TICK
        shown = (ran | renamed | watched.unsettled) & watched.known.keys()
        samples = tuple(
            self._sample(watched, watched.known[tid], now_ticks) for tid in sorted(shown)
        )
        watched.unsettled = {sample.tid for sample in samples if sample.provisional}
        resting = None
        if listed:
            resting = frozenset(
                (tid, known.start_ticks) for tid, known in watched.known.items() if tid not in shown
            )
        if len(self._errors) > errors:
            unread_ns = clock_ns  # of a thread that cannot be read for once, anything may be open
        return Reading(samples, ended, resting, unread_ns)

    def ended(self, watched: Watched) -> tuple[EndedThread, ...]:
        """The threads whose end was published since this was last asked."""
        return tuple(
            EndedThread((inode, slot.serial), slot.tid, slot.name, slot.cpu_ns)
            for inode, slot in watched.published.take_ended()
        )

    def search(self, watched: Watched, errors: list[ReadError]) -> None:
        """Look for tables in the process, and read them; what goes wrong is added to ``errors``.

        Raises :class:`Gone` when the process has ended.
        """
        try:
            errors.extend(watched.published.find(watched.dir))
            if watched.published.header is not None:
                watched.published.update(watched.dir)
        except ReadError as error:
            errors.append(error)
        watched.has_table = watched.published.header is not None

    def _read_hot(self, watched: Watched) -> tuple[set[int], bool]:
        """Read the hot threads' clocks: who has run, and whether one has ended."""
        ran = set()
        lost = False
        for tid, known in list(watched.hot.items()):
            try:
                if self._read_times(watched, known):
                    ran.add(tid)
            except Gone:
                self._forget(watched, tid)
                lost = True
            except ReadError as error:
                self._errors.append(error)
        return ran, lost

    def _read_list(self, watched: Watched, poll: int) -> set[int]:
        """Read the list of threads: drop who has gone, and read who is new; gives those."""
        new = set()
        tids = watched.dir.tids()
        for tid in watched.known.keys() - set(tids):
            self._forget(watched, tid)
        for tid in tids:
            if tid not in watched.known:
                try:
                    self._meet(watched, tid, poll)
                    new.add(tid)
                except Gone:
                    continue
                except ReadError as error:
                    self._errors.append(error)
        return new

    def _explain(self, watched: Watched, ended: tuple[EndedThread, ...]) -> None:
        """Take what ended threads have published out of the residual."""
        for end in ended:
            if end.cpu_ns is not None:
                known_ns = watched.forgotten.pop(end.tid, 0)
                watched.elsewhere_ns += max(end.cpu_ns - known_ns, 0) + _TAIL_NS
        watched.forgotten.clear()

    def _must_read_all(self, watched: Watched, process: Stat, clock_ns: int, poll: int) -> bool:
        if (
            not self._residuals
            or clock_ns == watched.clock_ns
            or len(watched.known) <= _FEW
            or poll >= watched.read_all_in
        ):
            return True
        leader = watched.known.get(watched.key.pid)
        if leader is None or (
            leader.stat.state != process.state and "T" in process.state + leader.stat.state
        ):
            return True  # all threads of a process are stopped together, which takes next to no CPU time
        return clock_ns - watched.elsewhere_ns - watched.known_ns > _RESIDUAL_NS

    def _read_all(
        self,
        watched: Watched,
        ran: set[int],
        clock: Callable[[], int],
        poll: int,
        *,
        at_rest: bool,
    ) -> set[int]:
        """Read the clocks of all but the hot threads, which have been read; who has run besides."""
        more = self._read_list(watched, poll)
        for tid, known in list(watched.known.items()):
            if tid in watched.hot or tid in ran or tid in more:
                continue
            try:
                if self._read_times(watched, known):
                    more.add(tid)
            except Gone:
                self._forget(watched, tid)
            except ReadError as error:
                self._errors.append(error)
        # That took a while, in which those that run went on. So that the two sums are of one
        # moment, they are read once more, right behind the clock.
        clock_ns = clock()
        for tid in (ran | more) & watched.known.keys():
            with suppress(Gone, ReadError):
                self._read_times(watched, watched.known[tid])
        watched.elsewhere_ns = clock_ns - watched.known_ns
        every = _READ_ALL_AT_REST if at_rest else _READ_ALL_EVERY
        watched.read_all_in = poll + every + watched.key.pid % every // 2
        return more

    def _meet(self, watched: Watched, tid: int, poll: int) -> None:
        """Read a thread for the first time."""
        stat = parse_stat(watched.dir.read_task(tid, "stat"))
        ns_tid = tid
        if watched.ns_pid != watched.key.pid:
            status = parse_status(watched.dir.read_task(tid, "status"))
            ns_tid = status.nspid[-1] if status.nspid else tid
        known = Known(tid, stat.start_ticks, ns_tid, poll, stat, None)
        self._read_times(watched, known)
        watched.known[tid] = known

    def _read_times(self, watched: Watched, known: Known) -> bool:
        """Read a thread's clock; whether it has run since it was last read."""
        if not self._schedstat:
            stat = parse_stat(watched.dir.read_task(known.tid, "stat"))
            ran = stat != known.stat
            known.stat = stat
            return ran
        if known.file is not None:
            data = known.file.read()
        else:
            data = watched.dir.read_task(known.tid, "schedstat")
        if data == known.raw:
            return False
        times, before = parse_schedstat(data), known.times
        known.raw = data
        watched.known_ns += times.cpu_ns - (before.cpu_ns if before else 0)
        known.times = times
        return True

    def _read_stats(self, watched: Watched, ran: set[int], poll: int) -> None:
        """Read the stat of those that have run: all of them, or as many as there are turns."""
        if not self._schedstat:
            return
        chosen = sorted(ran)
        if len(chosen) > _STATS_PER_POLL:
            first = poll * _STATS_PER_POLL % len(chosen)
            chosen = (chosen + chosen)[first : first + _STATS_PER_POLL]
        for tid in chosen:
            known = watched.known.get(tid)
            if known is None or known.met == poll:
                continue
            try:
                stat = parse_stat(watched.dir.read_task(tid, "stat"))
            except Gone:
                continue
            except ReadError as error:
                self._errors.append(error)
                continue
            if stat.start_ticks != known.start_ticks:  # another thread has the TID by now
                self._forget(watched, tid)
                continue
            known.stat = stat

    def _heat(self, watched: Watched, ran: set[int], poll: int) -> None:
        """Who has run is hot; who has not for a while is no longer."""
        for tid in ran:
            known = watched.known.get(tid)
            # a whole life that is read for the first time says nothing about the present
            if known is not None and (known.met != poll or known.stat.state == "R"):
                known.quiet = 0
                watched.hot[tid] = known
                if known.file is None and self._schedstat and self._kept < self._keep:
                    with suppress(Gone, ReadError):
                        known.file = watched.dir.open_task_file(tid, "schedstat")
                        self._kept += 1
        for tid, known in list(watched.hot.items()):
            known.quiet += 1
            if known.quiet > _COOL_AFTER:
                del watched.hot[tid]
                self._close(known)

    def _cool(self, watched: Watched) -> None:
        """The process is at rest: nobody is hot."""
        for known in watched.hot.values():
            self._close(known)
        watched.hot.clear()

    def _forget(self, watched: Watched, tid: int) -> None:
        """The thread has ended."""
        known = watched.known.pop(tid)
        watched.hot.pop(tid, None)
        if known.times is not None:
            watched.known_ns -= known.times.cpu_ns
            watched.elsewhere_ns += known.times.cpu_ns
            watched.forgotten[known.ns_tid] = known.times.cpu_ns
        self._close(known)

    def close(self, watched: Watched) -> None:
        """Let go of a process and all that is open for it."""
        for known in watched.known.values():
            self._close(known)
        watched.close()

    def _close(self, known: Known) -> None:
        if known.file is not None:
            known.file.close()
            known.file = None
            self._kept -= 1

    def _update_tables(self, watched: Watched) -> set[int]:
        """Follow the process's tables; whose names may be others now, by TID."""
        if watched.has_table:
            try:
                if not watched.published.update(watched.dir):
                    watched.has_lost_table = True
                    self.search(watched, self._errors)
                    watched.published.take_changed()
                    return set(watched.known)
            except ReadError as error:
                self._errors.append(error)
        changed = watched.published.take_changed()
        if changed and watched.ns_pid != watched.key.pid:
            own = {known.ns_tid: tid for tid, known in watched.known.items()}
            return {own[ns_tid] for ns_tid in changed if ns_tid in own}
        return changed

    def _sample(self, watched: Watched, known: Known, now_ticks: int) -> ThreadSample:
        stat, times = known.stat, known.times
        found: TableSlot | None = None
        if watched.has_table:
            found = watched.published.slot(known.ns_tid, known.start_ticks)
        comm = decode_comm(stat.comm)
        switches, io = self._extras(watched, known.tid)
        return ThreadSample(
            tid=known.tid,
            start_ticks=known.start_ticks,
            name=comm if found is None else found[1].name,
            source="comm" if found is None else "published",
            name_cut=found is not None and found[1].cut,
            slot=None if found is None else (found[0], found[1].serial),
            comm=comm,
            state=stat.state,
            cpu_ns=times.cpu_ns if times else (stat.user_ticks + stat.system_ticks) * NS_PER_TICK,
            exact=times is not None,
            user_ticks=stat.user_ticks,
            system_ticks=stat.system_ticks,
            runqueue_ns=times.runqueue_ns if times else None,
            timeslices=times.timeslices if times else None,
            voluntary_switches=switches[0],
            involuntary_switches=switches[1],
            minor_faults=stat.minor_faults,
            major_faults=stat.major_faults,
            read_bytes=io[0],
            write_bytes=io[1],
            last_cpu=stat.last_cpu,
            provisional=found is None
            and watched.has_table
            and now_ticks - known.start_ticks < _JUST_BORN_TICKS,
        )

    def _extras(
        self, watched: Watched, tid: int
    ) -> tuple[tuple[int | None, int | None], tuple[int | None, int | None]]:
        """Context switches and I/O bytes, where the configuration asks for them."""
        switches: tuple[int | None, int | None] = (None, None)
        io: tuple[int | None, int | None] = (None, None)
        for source in watched.config.collect:
            try:
                if source == "context_switches":
                    status = parse_status(watched.dir.read_task(tid, "status"))
                    switches = status.voluntary_switches, status.involuntary_switches
                else:
                    read = parse_io(watched.dir.read_task(tid, "io"))
                    io = read.read_bytes, read.write_bytes
            except Gone:
                break
            except ReadError as error:
                self._errors.append(error)
        return switches, io
