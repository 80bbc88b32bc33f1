"""Reads from a process the evidence why it does not publish, or why some of its threads have no name."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import CLOCK_BOOTTIME, clock_gettime_ns
from typing import TypeVar

from threadwatch.doctor.signs import Evidence, was_asked
from threadwatch.errors import Gone, Malformed, ReadError
from threadwatch.model.readings import NS_PER_TICK
from threadwatch.names.slots import TableHeader, parse_header
from threadwatch.procfs import ProcessDir, ProcFS, find_tables, parse_stat, parse_status
from threadwatch.procfs.environ import parse_environ
from threadwatch.procfs.limits import parse_file_limits
from threadwatch.procfs.maps import parse_maps
from threadwatch.targets.process import Process

_T = TypeVar("_T")

_DEEPEST = 16
"""Ancestors of a process that are examined."""
_FILTERED = re.compile(rb"^Seccomp:\t2$", re.MULTILINE)


def evidence_of(procfs: ProcFS, watched: Process) -> Evidence:
    """Return the evidence why the process does not publish; arbitrary if the process ends meanwhile."""
    process = watched.dir
    files = _read(lambda: parse_maps(process.read("maps", "maps")))
    limits = _read(lambda: parse_file_limits(process.read("limits", "limits")))
    status = _read(lambda: process.read("status", "status"))
    table_of = _read(lambda: _table_of(process))
    above = list(_above(procfs, watched.facts.ppid))
    return Evidence(
        cmdline=watched.facts.cmdline,
        exe=_read(process.exe),
        files=files or None,
        environ=_read(lambda: parse_environ(process.read("environ", "environ"))),
        asked_above=next((pid for pid, _, asked in above if asked), None),
        age_s=time.clock_gettime(CLOCK_BOOTTIME) - watched.key.start_ticks * NS_PER_TICK / 1e9,
        filtered=_FILTERED.search(status or b"") is not None,
        most_files=limits[0] if limits else None,
        most_bytes=limits[1] if limits else None,
        table_of=table_of,
        is_own_number=table_of == watched.ns_pid,
        is_of_ancestor=any(table_of == ns_pid for _, ns_pid, _ in above),
    )


def _read(read: Callable[[], _T]) -> _T | None:
    """Return the result of ``read``; None if it is hidden or missing: not every kernel has all files."""
    try:
        return read()
    except (Gone, ReadError):
        return None


def _above(procfs: ProcFS, pid: int) -> Iterator[tuple[int, int, bool]]:
    """Yield the ancestors: PID, PID as the process sees itself, whether it was started to publish."""
    for _ in range(_DEEPEST):
        if pid <= 0:
            return
        try:
            with procfs.open_process(pid) as process:
                status = parse_status(process.read("status", "status"))
                above = parse_stat(process.read("stat", "stat")).ppid
                environ = _read(lambda: parse_environ(process.read("environ", "environ")))
        except (Gone, ReadError):
            return
        yield pid, status.nspid[-1] if status.nspid else pid, was_asked(environ or {})
        pid = above


def _table_of(process: ProcessDir) -> int | None:
    """Return the PID in the first table that the process holds."""
    for fd in find_tables(process):
        with suppress(Gone, Malformed), process.open_table(fd) as file:
            return parse_header(file.read_header()).pid
    return None


def nameless(watched: Process, header: TableHeader) -> dict[str, int]:
    """Return how many living threads of a publishing process have no name in Python, by reason.

    - ``older``: they started before the process published, by other means than :mod:`threading`.
      A thread that started in the same clock tick counts as ``native``: the kernel tells no more.
    - ``full``: the table has fewer slots than the process has threads.
    - ``unread``: the table has more slots than have been read yet.
    - ``starting``: they have only just started.
    - ``native``: C code has started them.

    :raises Gone: the process has ended.
    """
    counts: Counter[str] = Counter()
    now_ns = clock_gettime_ns(CLOCK_BOOTTIME)
    for tid in watched.dir.tids():
        ns_tid = tid
        try:
            stat = parse_stat(watched.dir.read_task(tid, "stat"))
            if watched.ns_pid != watched.key.pid:
                status = parse_status(watched.dir.read_task(tid, "status"))
                ns_tid = status.nspid[-1] if status.nspid else tid
        except (Gone, ReadError):
            continue
        if watched.tables.slot(ns_tid, stat.start_ticks) is None:
            born_ns = stat.start_ticks * NS_PER_TICK
            counts[_why(watched, header, born_ns, now_ns)] += 1
    return dict(counts)


def _why(watched: Process, header: TableHeader, born_ns: int, now_ns: int) -> str:
    if watched.tables.has_unread:
        return "unread"
    if header.overflow:
        return "full"
    if born_ns + NS_PER_TICK < header.created_ns:
        return "older"
    return "starting" if now_ns - born_ns < 50_000_000 else "native"
