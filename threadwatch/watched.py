"""One watched process, and how its threads are read and matched with what it publishes."""

from __future__ import annotations

from dataclasses import dataclass

from threadwatch.config import GroupConfig
from threadwatch.errors import Gone, ReadError
from threadwatch.model import ProcessKey, ProcessView
from threadwatch.procfs import (
    ProcessDir,
    Stat,
    decode_comm,
    parse_io,
    parse_schedstat,
    parse_stat,
    parse_status,
)
from threadwatch.published import Published, TableSlot
from threadwatch.samples import NS_PER_TICK, EndedThread, ThreadSample

_JUST_BORN_TICKS = 10
"""A thread publishes itself within a tenth of a second, even where many want the GIL."""


@dataclass(slots=True)
class Watched:
    """What is kept about a watched process from poll to poll. Close it when it has gone."""

    key: ProcessKey
    dir: ProcessDir
    ns_pid: int
    """Its PID in its own, innermost PID namespace; publishers speak in those numbers."""
    ppid: int
    uid: int
    comm: str
    cmdline: tuple[str, ...]
    group: str
    config: GroupConfig
    published: Published
    has_table: bool = False
    clock_ns: int = -1
    """The process clock at the last poll; if it has not moved, nothing in the process has run."""
    time_ns: int = 0
    """CLOCK_MONOTONIC at the last poll."""
    view: ProcessView | None = None
    settled: bool = False
    """:attr:`view` shows the process at rest, and stays true while it rests."""
    next_look: int = 0
    """The poll in which to look again for another program (exec), and for a table if it has none."""
    look_wait: int = 1
    looked_clock_ns: int = -1
    """The process clock when that was last done."""

    def close(self) -> None:
        """Let go of the process and its tables."""
        self.published.close()
        self.dir.close()


class ThreadReader:
    """Reads the threads of a process from the kernel, and joins them with its tables.

    ``errors`` collects what could not be read: the thread is left out, or the field is None.
    """

    def __init__(self, errors: list[ReadError]) -> None:
        self._errors = errors
        self._schedstat = True

    def threads(self, watched: Watched, now_ticks: int) -> tuple[ThreadSample, ...]:
        """All threads that live now. Those that end while being read are left out.

        ``now_ticks`` is the time since boot. Raises :class:`Gone` when the process has ended.
        """
        raw = []
        for tid in watched.dir.tids():
            try:
                stat = parse_stat(watched.dir.read_task(tid, "stat"))
                raw.append((tid, stat, self._details(watched, tid)))
            except Gone:
                continue
            except ReadError as error:
                self._errors.append(error)
        # The tables are read after the threads: a thread that was seen has published itself by now,
        # and one that has ended since has left its name behind.
        self._update_tables(watched)
        return tuple(
            self._sample(watched, tid, stat, details, now_ticks) for tid, stat, details in raw
        )

    def ended(self, watched: Watched) -> tuple[EndedThread, ...]:
        """The threads whose end was published since this was last asked."""
        return tuple(
            EndedThread((inode, slot.serial), slot.tid, slot.name, slot.cpu_ns)
            for inode, slot in watched.published.take_ended()
        )

    def _update_tables(self, watched: Watched) -> None:
        if not watched.has_table:
            return
        try:
            if not watched.published.update(watched.dir):
                self.search(watched, self._errors)
                watched.next_look, watched.look_wait = 0, 1  # exec, perhaps
        except ReadError as error:
            self._errors.append(error)

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

    def _details(self, watched: Watched, tid: int) -> _Details:
        collect = watched.config.collect
        details = _Details()
        if self._schedstat:
            try:
                times = parse_schedstat(watched.dir.read_task(tid, "schedstat"))
            except ReadError as error:
                self._errors.append(error)
            else:
                details.cpu_ns = times.cpu_ns
                details.runqueue_ns, details.timeslices = times.runqueue_ns, times.timeslices
        if "context_switches" in collect or watched.ns_pid != watched.key.pid:
            status = parse_status(watched.dir.read_task(tid, "status"))
            details.ns_tid = status.nspid[-1] if status.nspid else tid
            if "context_switches" in collect:
                details.voluntary = status.voluntary_switches
                details.involuntary = status.involuntary_switches
        if "io" in collect:
            try:
                io = parse_io(watched.dir.read_task(tid, "io"))
            except ReadError as error:
                self._errors.append(error)
            else:
                details.read_bytes, details.write_bytes = io.read_bytes, io.write_bytes
        return details

    def _sample(
        self, watched: Watched, tid: int, stat: Stat, details: _Details, now_ticks: int
    ) -> ThreadSample:
        ns_tid = tid if details.ns_tid is None else details.ns_tid
        found: TableSlot | None = None
        if watched.has_table:
            found = watched.published.slot(ns_tid, stat.start_ticks)
        comm = decode_comm(stat.comm)
        exact = details.cpu_ns is not None
        return ThreadSample(
            tid=tid,
            start_ticks=stat.start_ticks,
            name=comm if found is None else found[1].name,
            source="comm" if found is None else "published",
            name_cut=found is not None and found[1].cut,
            slot=None if found is None else (found[0], found[1].serial),
            comm=comm,
            state=stat.state,
            cpu_ns=details.cpu_ns
            if details.cpu_ns is not None
            else (stat.user_ticks + stat.system_ticks) * NS_PER_TICK,
            exact=exact,
            user_ticks=stat.user_ticks,
            system_ticks=stat.system_ticks,
            runqueue_ns=details.runqueue_ns,
            timeslices=details.timeslices,
            voluntary_switches=details.voluntary,
            involuntary_switches=details.involuntary,
            minor_faults=stat.minor_faults,
            major_faults=stat.major_faults,
            read_bytes=details.read_bytes,
            write_bytes=details.write_bytes,
            last_cpu=stat.last_cpu,
            provisional=found is None
            and watched.has_table
            and now_ticks - stat.start_ticks < _JUST_BORN_TICKS,
        )


@dataclass(slots=True)
class _Details:
    """What is read of a thread beside its stat."""

    cpu_ns: int | None = None
    runqueue_ns: int | None = None
    timeslices: int | None = None
    ns_tid: int | None = None
    voluntary: int | None = None
    involuntary: int | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None
