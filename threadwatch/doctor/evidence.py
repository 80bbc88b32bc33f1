"""Reads from a process the evidence why it does not publish."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

from threadwatch.doctor.signs import Evidence, was_asked
from threadwatch.errors import Gone, Malformed, ReadError
from threadwatch.model.readings import NS_PER_TICK
from threadwatch.names.slots import parse_header
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
        age_s=time.clock_gettime(time.CLOCK_BOOTTIME) - watched.key.start_ticks * NS_PER_TICK / 1e9,
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
    """Return the PID in the first table that the process holds, and does not merely watch."""
    for fd in find_tables(process):
        with suppress(Gone, Malformed), process.open_table(fd) as file:
            if process.is_open_for_writing(fd):
                return parse_header(file.read_header()).pid
    return None
