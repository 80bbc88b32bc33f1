"""Makes readings of threads: the kernel's figures, under the name from the thread's source."""

from __future__ import annotations

import time
from collections.abc import Iterable

from threadwatch.errors import Gone, ReadError
from threadwatch.model.readings import NS_PER_TICK, ThreadReading
from threadwatch.procfs import decode_comm, parse_io, parse_status
from threadwatch.targets.process import Process
from threadwatch.targets.threads import KnownThread

_JUST_BORN_TICKS = 30
"""A thread publishes itself within this many ticks, even if many want the GIL, if there is a CPU for it."""
_HARDLY_RUN_NS = 1_000_000
_LATE_TICKS = 500
"""A thread that has used next to no CPU time may not have published itself yet: it has this many ticks."""


class Describer:
    """Makes readings of known threads. ``errors`` collects read errors."""

    def __init__(self, errors: list[ReadError]) -> None:
        self._errors = errors

    def describe(self, watched: Process, tids: Iterable[int]) -> tuple[ThreadReading, ...]:
        """Return readings of these threads, as far as they live, in order of their TIDs."""
        now_ticks = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // NS_PER_TICK
        known = watched.threads.known
        return tuple(
            [self._sample(watched, known[tid], now_ticks) for tid in sorted(tids) if tid in known]
        )

    def _sample(self, watched: Process, known: KnownThread, now_ticks: int) -> ThreadReading:
        stat = known.stat
        age_ticks = now_ticks - stat.start_ticks
        names = watched.names
        name = names.name_of(known.ns_tid, stat.start_ticks, known.name)
        name_pending = False
        if name is not None:
            known.name = name
        elif names.known:
            young_ticks = _LATE_TICKS if known.cpu_ns < _HARDLY_RUN_NS else _JUST_BORN_TICKS
            coming = names.is_coming(known.ns_tid, stat.start_ticks)
            name_pending = coming or age_ticks < young_ticks
            if not name_pending:
                names.missed(stat.start_ticks)
        comm = decode_comm(stat.comm)
        switches, io = self._extras(watched, known.tid)
        return ThreadReading(
            tid=known.tid,
            start_ticks=stat.start_ticks,
            name=comm if name is None else name.text,
            source="comm" if name is None else name.source,
            name_cut=name is not None and name.cut,
            slot=None if name is None else name.slot,
            comm=comm,
            state=stat.state,
            cpu_ns=known.cpu_ns,
            exact=known.runqueue_ns is not None,
            user_ticks=stat.user_ticks,
            system_ticks=stat.system_ticks,
            runqueue_ns=known.runqueue_ns,
            timeslices=known.timeslices,
            voluntary_switches=switches[0],
            involuntary_switches=switches[1],
            minor_faults=stat.minor_faults,
            major_faults=stat.major_faults,
            read_bytes=io[0],
            write_bytes=io[1],
            last_cpu=stat.last_cpu,
            name_pending=name_pending,
            too_young_to_show=age_ticks < _JUST_BORN_TICKS,
        )

    def _extras(
        self, watched: Process, tid: int
    ) -> tuple[tuple[int | None, int | None], tuple[int | None, int | None]]:
        """Return context switches and I/O bytes, if the configuration asks for them."""
        switches: tuple[int | None, int | None] = (None, None)
        io: tuple[int | None, int | None] = (None, None)
        for source in watched.membership.config.collect:
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
