"""Reads the threads of a process from the kernel, at a cost that follows how many of them run.

How: the process's CPU clock, one system call, counts all its threads. Each poll reads the clocks of
the threads that have run lately (they are *hot*). What the process clock has gained beyond theirs
(the *residual*) was used by threads that are not hot, or have been born or have ended. As long as
it is next to nothing, nobody else needs to be read; once it is not, all are, and who has run becomes
hot. The residual is the difference of two sums over whole lives, so a slow leak adds up until it
is found. The clock is read first, and the kernel books it and the threads' clocks at the same moments, so
it is never ahead of threads that have been read.

Births and ends show in the number of threads, in the published tables, and in the residual; then the
list of threads is read, and only those that are new in it. A process that
has come to rest is read whole once more. One with few threads is read whole whenever the least is left to
be explained.

:mod:`.stat_turns` decides whose stat is read; :mod:`.describe` makes samples of it all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from threadwatch.errors import Gone, ReadError
from threadwatch.model.readings import EndedThread, Identity, ThreadReading
from threadwatch.names.table import TableSlot
from threadwatch.procfs import parse_stat, parse_waited
from threadwatch.targets.process import KnownThread, Watched
from threadwatch.threads import ends
from threadwatch.threads.clocks import ThreadClocks
from threadwatch.threads.describe import Describer
from threadwatch.threads.stat_turns import FEW, StatTurns

_RESIDUAL_NS = 500_000
"""CPU time whose owner need not be looked for yet."""
_CHECK_IN = 512
"""Polls within which each thread is read whatever the clocks say: a few in each, not all in one."""
_CHECK_AT_REST = 32
"""How many threads of a process at rest are read in a poll for that."""
_LOOKS_PER_POLL = 1024
"""How many threads are looked at in one poll for what they wait for."""
_LOOKS_AT_LEAST = 8
"""How many may be in each process all the same."""
_TICKS_EVERY = 16
"""Polls after which the process's own stat is read again, for which the kernel walks all its threads."""
_ASK_COST = 8
"""How many threads can be listed for the price of asking for one that is no more."""
_MOST_FORGOTTEN = 4096
"""How many threads that have gone are kept for ends that have been published and not been read yet."""
_TAIL_NS = 5_000
"""What a thread uses at least after its end was published."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one poll has read of a process's threads; as in :class:`.ProcessSample`."""

    threads: tuple[ThreadReading, ...]
    times: list[KnownThread]
    ended: tuple[EndedThread, ...]
    living: frozenset[Identity] | None
    unread_ns: int
    behind: bool
    complete: bool
    """It rests, and nothing is left to be read of it."""


class ThreadReader:
    """Reads the threads of watched processes, one process at a time.

    ``errors`` collects what could not be read: the thread is left out, or the field is None.
    ``schedstat``, ``process_clocks``: whether the kernel keeps the one, and the others can be asked
    for; without either, every thread of an awake process is read in every poll.
    """

    def __init__(self, errors: list[ReadError], *, schedstat: bool, process_clocks: bool) -> None:
        self._errors = errors
        self._clocks = ThreadClocks(errors, schedstat=schedstat)
        self._residuals = schedstat and process_clocks
        self._stats = StatTurns(errors, self._clocks)
        self._describer = Describer(errors)
        self._looks_left = _LOOKS_PER_POLL

    def begin(self, processes: int) -> None:
        """A new poll begins, in which so many processes will be read."""
        self._stats.begin(processes)
        self._looks_left = _LOOKS_PER_POLL

    def read(self, watched: Watched, clock_ns: int, clock: Callable[[], int], poll: int) -> Reading:
        """Read what may have changed since the last time.

        ``clock_ns`` is the process's clock, just read; ``clock`` reads it again. Raises
        :class:`Gone` when the process has ended.
        """
        errors, at_rest = len(self._errors), clock_ns == watched.clock_ns
        stopped = self._read_leader(watched, at_rest=at_rest)
        ran: dict[int, KnownThread] = {}
        lost = self._clocks.read_hot(watched, ran)
        listed = lost or watched.dir.thread_count() != len(watched.known)
        if listed:
            self._read_list(watched, ran, poll)
        # The tables come after the threads: one that was seen has published itself by now, and one
        # that has ended since has left its name behind.
        renamed = self._update_names(watched, poll)
        ended = watched.names.take_ended()
        # what has been published is not left to be explained
        watched.elsewhere_ns += ends.explained_ns(watched, ended, _TAIL_NS)
        few = len(watched.known) <= FEW
        changed = stopped or (few and (listed or bool(ended)))
        whole = changed or self._must_read_all(watched, clock_ns, few=few)
        unread_ns = 0 if whole else _RESIDUAL_NS
        if whole and few:
            lost = self._read_few(watched, ran, clock_ns)
        elif whole:
            lost = self._read_all(watched, ran, clock, poll)
            listed = True
        else:
            lost = self._clocks.read(watched, _to_check(watched, poll), ran)
            if not renamed <= watched.known.keys():
                self._read_list(watched, ran, poll)
                listed = True
        if listed:
            renamed |= self._update_names(watched, poll)
            ended += watched.names.take_ended()
        full, replaced = self._stats.read(watched, ran, of_all=at_rest or stopped)
        replaced |= ends.replaced(watched, ended, self._clocks)
        if lost or replaced:  # another thread may have the TID by now
            self._read_list(watched, ran, poll)
            renamed |= self._update_names(watched, poll)
            ended += watched.names.take_ended()
            full |= {tid for tid, known in ran.items() if known.met == poll}
            listed = True
        if unseen := ends.unseen(watched, ended):
            full |= self._meet_late(watched, unseen, ran, poll)
        complete = at_rest and all(
            known.stat_cpu_ns == known.cpu_ns for known in watched.known.values()
        )
        if listed or (few and whole) or poll >= watched.ticks_read + _TICKS_EVERY:
            self._read_ticks(watched, poll)
        self._clocks.heat(watched, ran, poll)
        threads = self._describer.describe(watched, full | renamed | watched.unsettled)
        shown = {sample.tid for sample in threads}
        watched.unsettled = {sample.tid for sample in threads if sample.provisional}
        times = _still(watched, ran, but=shown)
        living = frozenset([k.identity for k in watched.known.values()]) if listed else None
        if len(self._errors) > errors:
            unread_ns = clock_ns  # of a thread that cannot be read for once, anything may be open
        told, behind = self._whose(watched, ended), watched.names.has_unread
        return Reading(threads, times, told, living, unread_ns, behind, complete)

    def ended(self, watched: Watched) -> tuple[EndedThread, ...]:
        """The threads whose end was published since this was last asked."""
        return self._whose(watched, watched.names.take_ended())

    def _whose(self, watched: Watched, ended: list[TableSlot]) -> tuple[EndedThread, ...]:
        lives = ends.whose(watched, ended)
        # what is not read yet may tell of them; a table that is never read to its end tells of the last ones
        keep = _MOST_FORGOTTEN if watched.names.has_unread else 0
        del watched.forgotten[: max(len(watched.forgotten) - keep, 0)]
        return lives

    def to_look_at(self, watched: Watched, *, at_rest: bool) -> tuple[list[KnownThread], bool]:
        """Threads that have run since anybody saw what they wait for: as many as may be looked at now.

        And whether these are all.

        Those that run are seen in samples, until the process comes to rest.
        """
        behind = [known for tid in watched.unseen if (known := watched.known.get(tid)) is not None]
        if at_rest:
            behind += [known for known in watched.hot.values() if known.wait_cpu_ns != known.cpu_ns]
        looked = behind[: max(self._looks_left, _LOOKS_AT_LEAST)]
        self._looks_left -= len(looked)
        for known in looked:
            known.wait_cpu_ns = known.cpu_ns
        watched.unseen = {
            known.tid for known in behind[len(looked) :] if known.tid not in watched.hot
        }
        return looked, len(looked) == len(behind)

    def read_waited(self, watched: Watched) -> None:
        """Read what the process's ended children have used."""
        watched.waited = parse_waited(watched.dir.read_task(watched.key.pid, "stat"))

    def lay_to_rest(self, watched: Watched, poll: int) -> None:
        """The process rests, and may do so for long: keep no files of its threads open."""
        self._clocks.cool(watched)
        # those that come to rest together need not be checked together
        watched.check_in = poll + 1 + (watched.key.pid * 0x9E3779B1 >> 16) % _CHECK_IN

    def stands_still(self, watched: Watched, poll: int) -> bool:
        """Whether some threads of a process at rest are as they were known; others in each call."""
        count = len(watched.known)
        most = min(_CHECK_AT_REST, count)
        watched.check_in = poll + max(_CHECK_IN * most // max(count, 1), 1)
        ran: dict[int, KnownThread] = {}
        return not self._clocks.read(watched, _next(watched, most), ran) and not ran

    def close(self, watched: Watched) -> None:
        """Let go of a process and all that is open for it."""
        self._clocks.close(watched)
        watched.close()

    def _read_leader(self, watched: Watched, *, at_rest: bool) -> bool:
        """Read the main thread's stat if need be; whether the process has been stopped or continued since.

        All threads of a process are stopped together, and then none runs.
        """
        leader = watched.known.get(watched.key.pid)
        if leader is None or len(watched.known) <= FEW:
            return False
        state = leader.stat.state
        if not at_rest and state not in {"T", "t"}:
            return False
        try:
            self._clocks.read_stat(watched, leader)
        except ReadError as error:
            self._errors.append(error)
        return state != leader.stat.state and bool({"T", "t"} & {state, leader.stat.state})

    def _read_list(self, watched: Watched, ran: dict[int, KnownThread], poll: int) -> None:
        """Read the list of threads: drop who has gone, and read who is new; those are in ``ran`` then."""
        tids = watched.dir.tids()
        for tid in watched.known.keys() - set(tids):
            self._clocks.forget(watched, watched.known[tid])
        for tid in tids:
            if tid not in watched.known:
                self._meet(watched, tid, ran, poll)

    def _meet_late(
        self, watched: Watched, unseen: set[int], ran: dict[int, KnownThread], poll: int
    ) -> set[int]:
        """Read threads whose end has been published, but the kernel shows them yet; gives their TIDs.

        It will for longer if a tracer holds them, or they are of C and have only left Python. ``unseen`` has
        their TIDs as published. To ask for a few is cheaper than to list all threads of a large process.
        """
        met = set()
        ours = watched.ns_pid == watched.key.pid
        few = ours and len(unseen) * _ASK_COST < len(watched.known)
        for tid in unseen if few else watched.dir.tids():
            if tid not in watched.known and self._meet(watched, tid, ran, poll):
                met.add(tid)
                watched.read_all = True  # part of it may have been explained already
        return met

    def _meet(self, watched: Watched, tid: int, ran: dict[int, KnownThread], poll: int) -> bool:
        """Read a thread for the first time; False if it has gone, or cannot be read."""
        try:
            ran[tid] = self._clocks.meet(watched, tid, poll)
        except Gone:
            return False
        except ReadError as error:
            self._errors.append(error)
            return False
        return True

    def _must_read_all(self, watched: Watched, clock_ns: int, *, few: bool) -> bool:
        return (
            not self._residuals
            # who ran while all were read is in no residual: at rest, they are read once more
            or clock_ns == watched.clock_ns
            or watched.read_all
            or watched.key.pid not in watched.known
            or clock_ns - watched.elsewhere_ns - watched.known_ns > (0 if few else _RESIDUAL_NS)
        )

    def _read_few(self, watched: Watched, ran: dict[int, KnownThread], clock_ns: int) -> bool:
        """Read the clocks of all but the hot threads, which have been read; whether one has ended.

        The list of threads is younger than ``clock_ns``. What they have used since hides nothing: it
        makes the next residual seem larger, and all be read again.
        """
        errors = len(self._errors)
        lost = self._clocks.read(watched, _rest(watched, ran), ran)
        watched.elsewhere_ns = clock_ns - watched.known_ns
        watched.read_all = len(self._errors) > errors
        return lost

    def _read_all(
        self,
        watched: Watched,
        ran: dict[int, KnownThread],
        clock: Callable[[], int],
        poll: int,
    ) -> bool:
        """Read the clocks of all but the hot threads, which have been read; whether one has ended."""
        self._read_list(watched, ran, poll)
        lost = self._clocks.read(watched, _rest(watched, ran), ran)
        # That took a while, in which those that run went on. So that the two sums are of one
        # moment, they are read once more, right behind the clock.
        clock_ns = clock()
        again = [known for tid, known in ran.items() if watched.known.get(tid) is known]
        lost |= self._clocks.read(watched, again, {})
        watched.elsewhere_ns = clock_ns - watched.known_ns
        watched.read_all = False
        return lost

    def _read_ticks(self, watched: Watched, poll: int) -> None:
        """Read the CPU time of the whole process in ticks, which says how it is split."""
        data = watched.dir.read("stat", "stat")
        stat = parse_stat(data)
        watched.ticks, watched.ticks_read = (stat.user_ticks, stat.system_ticks), poll
        watched.waited = parse_waited(data)

    def _update_names(self, watched: Watched, poll: int) -> set[int]:
        """Follow the source of the process's names; whose names may be others now, by TID."""
        changes = watched.names.update(watched.dir, poll, watched.clock_ns, watched)
        self._errors.extend(changes.errors)
        if changes.lost:
            watched.names_lost = True
            return set(watched.known)
        changed = changes.tids
        if changed and watched.ns_pid != watched.key.pid:
            own = {known.ns_tid: tid for tid, known in watched.known.items()}
            return {own[ns_tid] for ns_tid in changed if ns_tid in own}
        return changed


def _still(watched: Watched, ran: dict[int, KnownThread], but: set[int]) -> list[KnownThread]:
    """Those that ran and are known still, ``but`` these."""
    now = watched.known
    return [known for tid, known in ran.items() if tid not in but and now.get(tid) is known]


def _rest(watched: Watched, ran: dict[int, KnownThread]) -> list[KnownThread]:
    """The threads that have not been read in this poll: neither hot nor new."""
    hot = watched.hot
    return [known for tid, known in watched.known.items() if tid not in hot and tid not in ran]


def _to_check(watched: Watched, poll: int) -> list[KnownThread]:
    """The threads of an awake process whose turn it is to be read whatever the clocks say."""
    count = len(watched.known)
    every = max(_CHECK_IN // max(count, 1), 1)
    if (poll + watched.key.pid) % every:
        return []
    return [k for k in _next(watched, max(count // _CHECK_IN, 1)) if k.tid not in watched.hot]


def _next(watched: Watched, count: int) -> list[KnownThread]:
    """So many of the process's threads, all in turns."""
    if not watched.unchecked:
        watched.unchecked = list(watched.known.values())
    taken = watched.unchecked[-count:]
    del watched.unchecked[-count:]
    return [known for known in taken if watched.known.get(known.tid) is known]
