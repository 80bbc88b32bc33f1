"""Reads the threads of a process for ``doctor``: their names, those without one in Python, their series."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from time import CLOCK_BOOTTIME, clock_gettime_ns
from typing import NamedTuple

from threadwatch.errors import Gone, ReadError
from threadwatch.labels.groups import ThreadNames
from threadwatch.model.readings import NS_PER_TICK
from threadwatch.names.memory.following import CONFIRM_AFTER_NS
from threadwatch.names.slots import TableHeader
from threadwatch.procfs import Stat, decode_comm, parse_stat, parse_status
from threadwatch.targets.process import Process


class _Living(NamedTuple):
    """The living threads as a source of names asks for them: all have run lately."""

    start_ticks: Mapping[int, int]
    changes: int = 0

    def started(self) -> Mapping[int, int]:
        return self.start_ticks

    def changed(self, since: int) -> Collection[int]:  # noqa: ARG002  # they are looked at once
        return ()

    def lately(self) -> Collection[int]:
        return self.start_ticks.keys()


def living_threads(watched: Process) -> Mapping[int, Stat]:
    """Return the living threads of a process, by their TIDs in its own PID namespace.

    :raises Gone: the process has ended.
    """
    found: dict[int, Stat] = {}
    for tid in watched.dir.tids():
        with suppress(Gone, ReadError):
            stat = parse_stat(watched.dir.read_task(tid, "stat"))
            ns_tid = tid
            if watched.ns_pid != watched.key.pid:
                status = parse_status(watched.dir.read_task(tid, "status"))
                ns_tid = status.nspid[-1] if status.nspid else tid
            found[ns_tid] = stat
    return found


def nameless(watched: Process, header: TableHeader, threads: Mapping[int, Stat]) -> dict[str, int]:
    """Return how many of these threads of a publishing process have no name in Python, by reason.

    - ``older``: they started before the process published, by other means than :mod:`threading`.
      A thread that started in the same clock tick counts as ``native``: the kernel tells no more.
    - ``full``: the table has fewer slots than the process has threads.
    - ``unread``: the table has more slots than have been read yet.
    - ``starting``: they have only just started.
    - ``native``: C code has started them.
    """
    counts: Counter[str] = Counter()
    now_ns = clock_gettime_ns(CLOCK_BOOTTIME)
    for ns_tid, stat in threads.items():
        if watched.tables.slot(ns_tid, stat.start_ticks) is None:
            born_ns = stat.start_ticks * NS_PER_TICK
            counts[_why(watched, header, born_ns, now_ns)] += 1
    return dict(counts)


_PAID = sys.maxsize
"""CPU time that pays for every look: a process that a user asks for is read, whatever it has used."""


def learn_names(watched: Process, threads: Mapping[int, Stat]) -> None:
    """Read the names of these threads from the process's memory, as the daemon does in two polls.

    :raises Gone: the process has ended.
    """
    living = _Living({tid: stat.start_ticks for tid, stat in threads.items()})
    for poll in (1, 2):
        watched.names.update(watched.dir, poll, _PAID, living)
        time.sleep(CONFIRM_AFTER_NS / 1e9)


def labels_of(watched: Process, threads: Mapping[int, Stat]) -> dict[str, str]:
    """Return, by the name of each of these threads, the name of the series that the daemon gives it."""
    rules = ThreadNames(watched.membership.config.threads.rules)
    found = {}
    for ns_tid, stat in threads.items():
        known = watched.names.name_of(ns_tid, stat.start_ticks, None)
        name = decode_comm(stat.comm) if known is None else known.text
        found[name] = rules.series_name(name)
    return found


def _why(watched: Process, header: TableHeader, born_ns: int, now_ns: int) -> str:
    if watched.tables.has_unread:
        return "unread"
    if header.overflow:
        return "full"
    if born_ns + NS_PER_TICK < header.created_ns:
        return "older"
    return "starting" if now_ns - born_ns < 50_000_000 else "native"
