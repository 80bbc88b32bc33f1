"""Reads the threads of a process from the kernel, at a cost that follows how many of them run.

The process's CPU clock, one system call, counts all its threads. Each poll reads the clocks of the
threads that have run lately (they are *hot*). Threads that are not hot, are new or have ended have
used what the process clock has gained beyond theirs (the *residual*). As long as the residual is
next to nothing, no other thread needs to be read; once it is more, all are read, and those that ran
become hot. The residual is the difference of two sums over whole lives, so a slow leak adds up
until it is found. The clock is read first, and the kernel books it and the threads' clocks at the
same moments, so it is never ahead of threads that have been read.

Births and ends show in the number of threads, in the published tables, and in the residual; then
the list of threads is read, and only its new threads. A process that has come to rest is read whole
once more. In a process with at most 32 threads, all threads are read as soon as the process clock
is ahead of theirs at all.

:mod:`.residual` decides whether all are read, :mod:`.checks` which ones in any case,
:mod:`.stat_turns` whose stat, and :mod:`.wait_looks` whose waits. :mod:`.describe` makes readings
of all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from threadwatch.errors import ReadError
from threadwatch.model.readings import EndedThread, Identity, ThreadReading
from threadwatch.names.table import TableSlot
from threadwatch.procfs import parse_stat, parse_waited
from threadwatch.targets.process import Process
from threadwatch.targets.threads import KnownThread
from threadwatch.threads import ends
from threadwatch.threads.checks import Checks
from threadwatch.threads.clocks import ThreadClocks
from threadwatch.threads.describe import Describer
from threadwatch.threads.lists import ThreadLists
from threadwatch.threads.residual import RESIDUAL_NS, Residuals
from threadwatch.threads.stat_turns import FEW, StatTurns
from threadwatch.threads.wait_looks import WaitLooks

_TICKS_EVERY = 16
"""Polls after which the process's own stat is read again, which makes the kernel walk all its threads."""
_MOST_FORGOTTEN = 4096
"""The most gone threads that are kept for ends that were published and have not been read yet."""
_TAIL_NS = 5_000
"""The least CPU time of a thread after its end was published."""


class Reading(NamedTuple):
    """The result of one poll's reading of a process's threads; as in :class:`.ProcessReading`."""

    threads: tuple[ThreadReading, ...]
    times: list[KnownThread]
    ended: tuple[EndedThread, ...]
    living: frozenset[Identity] | None
    unread_ns: int
    behind: bool
    complete: bool
    """The process rests, and nothing is left to be read of it."""
    names_lost: bool
    """The source of its names was lost: the process may be another program now."""


NOTHING_NEW = Reading((), [], (), None, 0, behind=False, complete=True, names_lost=False)
"""The reading of a process that has not run since all of it was read."""


class ThreadReader:
    """Reads the threads of watched processes, one process at a time.

    ``errors`` collects what could not be read: the thread is left out, or the field is None.
    ``schedstat``, ``process_clocks``: whether the kernel keeps the one, and the others can be asked
    for; without either, every thread of an awake process is read in every poll.
    """

    def __init__(self, errors: list[ReadError], *, schedstat: bool, process_clocks: bool) -> None:
        self._errors = errors
        self._clocks = ThreadClocks(errors, schedstat=schedstat)
        self._lists = ThreadLists(errors, self._clocks)
        self._residuals = Residuals(
            errors, self._clocks, self._lists, known=schedstat and process_clocks
        )
        self.checks = Checks(self._clocks)
        self._stats = StatTurns(errors, self._clocks)
        self._describer = Describer(errors)
        self.looks = WaitLooks()

    def begin(self, processes: int) -> None:
        """Begin a new poll, in which this many processes will be read."""
        self._stats.begin(processes)
        self.looks.begin()

    def read(self, watched: Process, clock_ns: int, clock: Callable[[], int], poll: int) -> Reading:
        """Read what may have changed since the last time.

        ``clock_ns`` is the process's clock, just read; ``clock`` reads it again. Raises
        :class:`Gone` when the process has ended.
        """
        book = watched.threads
        errors, at_rest = len(self._errors), clock_ns == watched.last.clock_ns
        stopped = self._read_leader(watched, at_rest=at_rest)
        ran: dict[int, KnownThread] = {}
        lost = self._clocks.read_hot(watched, ran)
        listed = lost or watched.dir.thread_count() != len(book.known)
        if listed:
            self._lists.read(watched, ran, poll)
        # The tables come after the threads: a thread that was seen has published itself by now, and
        # one that has ended since has left its name behind.
        renamed = self._update_names(watched, clock_ns, poll)
        ended = watched.names.take_ended()
        # CPU time that has been published does not have to be explained.
        book.explain(ends.explained_ns(watched, ended, _TAIL_NS))
        few = len(book.known) <= FEW
        changed = stopped or (few and (listed or bool(ended)))
        whole = changed or self._residuals.must_read_all(watched, clock_ns, few=few)
        unread_ns = 0 if whole else RESIDUAL_NS
        if whole and few:
            lost = self._residuals.read_few(watched, ran, clock_ns)
        elif whole:
            lost = self._residuals.read_all(watched, ran, clock_ns, clock, poll)
            listed = True
        else:
            lost = self._clocks.read(watched, self.checks.due(watched, poll), ran)
            if not renamed <= book.known.keys():
                self._lists.read(watched, ran, poll)
                listed = True
        if listed:
            renamed |= self._update_names(watched, clock_ns, poll)
            ended += watched.names.take_ended()
        full, replaced = self._stats.read(watched, ran, of_all=at_rest or stopped)
        replaced |= ends.replaced(watched, ended, self._clocks)
        if lost or replaced:  # another thread may have the TID by now
            self._lists.read(watched, ran, poll)
            renamed |= self._update_names(watched, clock_ns, poll)
            ended += watched.names.take_ended()
            full |= {tid for tid, known in ran.items() if known.met == poll}
            listed = True
        if unseen := ends.unseen(watched, ended):
            full |= self._lists.meet_late(watched, unseen, ran, poll)
        complete = at_rest and all(
            known.stat_cpu_ns == known.cpu_ns for known in book.known.values()
        )
        if listed or (few and whole) or poll >= book.ticks_read + _TICKS_EVERY:
            self._read_ticks(watched, poll)
        self._clocks.heat(watched, ran, poll)
        threads, times = self._describe(watched, full | renamed, ran)
        living = frozenset([k.identity for k in book.known.values()]) if listed else None
        if len(self._errors) > errors:
            unread_ns = clock_ns  # a thread that cannot be read once can leave any amount open
        told, behind = self._whose(watched, ended), watched.names.has_unread
        names_lost = book.take_names_lost()
        return Reading(threads, times, told, living, unread_ns, behind, complete, names_lost)

    def _describe(
        self, watched: Process, tids: set[int], ran: dict[int, KnownThread]
    ) -> tuple[tuple[ThreadReading, ...], list[KnownThread]]:
        """Describe these threads, and those to be shown again; return also the others that ran."""
        book = watched.threads
        threads = self._describer.describe(watched, tids | book.show_again)
        described = {reading.tid for reading in threads}
        book.show_these_again({reading.tid for reading in threads if reading.name_pending})
        return threads, _still(watched, ran, but=described)

    def ended(self, watched: Process) -> tuple[EndedThread, ...]:
        """Return the threads whose end was published since the last call."""
        return self._whose(watched, watched.names.take_ended())

    def _whose(self, watched: Process, ended: list[TableSlot]) -> tuple[EndedThread, ...]:
        lives = ends.whose(watched, ended)
        # What is not read yet may tell of them; a table that is never read to its end tells of the
        # last ones.
        keep = _MOST_FORGOTTEN if watched.names.has_unread else 0
        watched.threads.keep_forgotten(keep)
        return lives

    def read_waited(self, watched: Process) -> None:
        """Read what the process's ended children have used."""
        stat = watched.dir.read_task(watched.key.pid, "stat")
        watched.threads.read_waited(parse_waited(stat))

    def close(self, watched: Process) -> None:
        """Close all files of a process's threads."""
        self._clocks.close(watched)
        watched.close()

    def _read_leader(self, watched: Process, *, at_rest: bool) -> bool:
        """Read the main thread's stat if need be; return whether the process was stopped or continued.

        All threads of a process are stopped together, and then none runs.
        """
        known = watched.threads.known
        leader = known.get(watched.key.pid)
        if leader is None or len(known) <= FEW:
            return False
        state = leader.stat.state
        if not at_rest and state not in {"T", "t"}:
            return False
        try:
            self._clocks.read_stat(watched, leader)
        except ReadError as error:
            self._errors.append(error)
        return state != leader.stat.state and bool({"T", "t"} & {state, leader.stat.state})

    def _read_ticks(self, watched: Process, poll: int) -> None:
        """Read the CPU time of the whole process in ticks, which says how it is split."""
        data = watched.dir.read("stat", "stat")
        stat = parse_stat(data)
        ticks = stat.user_ticks, stat.system_ticks
        watched.threads.read_process(ticks, parse_waited(data), poll)

    def _update_names(self, watched: Process, clock_ns: int, poll: int) -> set[int]:
        """Update the process's names; return the TIDs of threads that may have another name."""
        book = watched.threads
        changes = watched.names.update(watched.dir, poll, clock_ns, book)
        self._errors.extend(changes.errors)
        if changes.lost:
            book.lose_names()
            return set(book.known)
        changed = changes.tids
        if changed and watched.ns_pid != watched.key.pid:
            own = {known.ns_tid: tid for tid, known in book.known.items()}
            return {own[ns_tid] for ns_tid in changed if ns_tid in own}
        return changed


def _still(watched: Process, ran: dict[int, KnownThread], but: set[int]) -> list[KnownThread]:
    """Return the threads that ran and are still known, without those in ``but``."""
    now = watched.threads.known
    return [known for tid, known in ran.items() if tid not in but and now.get(tid) is known]
