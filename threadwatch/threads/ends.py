"""Finds the kernel's threads to which published ends belong.

A publisher speaks in TIDs of its own namespace, and of threads as Python sees them. From CPython
3.13 on, a thread of C that calls Python and asks for its name is another thread to Python each
time, and each time there is an end, with the CPU time of its whole life so far. Up to 3.12 there is
one end, after the first time. But if the kernel still shows this TID after such an end was
published, it is still that thread.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from threadwatch.errors import ReadError
from threadwatch.model.readings import NS_PER_TICK, EndedThread
from threadwatch.names.table import TableSlot
from threadwatch.targets.process import Process
from threadwatch.targets.threads import KnownThread
from threadwatch.threads.clocks import ThreadClocks

_DUMMY = re.compile(r"Dummy-\d+")
"""The name that :mod:`threading` gives to a thread that it has not started; older publishers have
no other mark."""


def whose(watched: Process, ended: Sequence[TableSlot]) -> tuple[EndedThread, ...]:
    """Return the ends in order of time, each with its thread of the kernel, if that is known."""
    if not ended:
        return ()
    living = _living(watched)
    gone: dict[int, list[KnownThread]] = {}
    for known in watched.threads.forgotten:
        gone.setdefault(known.ns_tid, []).append(known)
    told = []
    for inode, slot in sorted(ended, key=lambda end: (end[1].ended_ns, end[1].end_serial)):
        visitor = slot.visitor or _DUMMY.fullmatch(slot.name) is not None
        now = living.get(slot.tid)
        threads = [*([] if now is None else [now]), *gone.get(slot.tid, ())]
        thread, early = _whose((inode, slot), threads, visitor=visitor)
        told.append(
            EndedThread(
                (inode, slot.serial),
                slot.tid if thread is None else thread.tid,
                slot.name,
                slot.cpu_ns,
                None if thread is None else thread.identity,
                early,
                visitor,
                slot.start_ns,
            )
        )
    return tuple(told)


def _whose(
    end: TableSlot, threads: list[KnownThread], *, visitor: bool
) -> tuple[KnownThread | None, bool]:
    """Return which of these threads has ended, and whether an earlier one with its TID may have instead.

    A living thread comes before those that have gone.
    """
    inode, slot = end
    # Until it had ended, no other thread had its TID.
    candidates = [known for known in threads if slot.ended_ns >= _born_ns(known)]
    late = [k for k in candidates if visitor or slot.ended_ns >= _born_ns(k) + NS_PER_TICK]
    for known in candidates:
        if known.name is not None and known.name.slot == (inode, slot.serial):
            return known, known not in late
    for known in (*late, *candidates):
        return known, known not in late
    return None, False


def unseen(watched: Process, ended: Sequence[TableSlot]) -> set[int]:
    """Return the published TIDs of ended threads that are not known."""
    if not ended:
        return set()
    living = _living(watched)
    known = {known.ns_tid for known in watched.threads.forgotten}
    return {slot.tid for _, slot in ended if slot.tid not in living and slot.tid not in known}


def replaced(watched: Process, ended: Sequence[TableSlot], clocks: ThreadClocks) -> bool:
    """Return whether another thread, or none, has one of these TIDs; reads the stat of the living.

    Raises nothing: a thread that cannot be read counts as living.
    """
    if not ended:
        return False
    living = _living(watched)
    again = False
    for tid in {slot.tid for _, slot in ended}:
        known = living.get(tid)
        if known is not None:
            try:
                again |= not clocks.read_stat(watched, known)
            except ReadError:
                continue  # it is read, and the error counted, in its turn
    return again


def explained_ns(watched: Process, ended: Sequence[TableSlot], least_ns: int) -> int:
    """Return the CPU time that these ends explain: what no known thread has, and ``least_ns`` for each."""
    if not ended:
        return 0
    # A thread that the kernel still shows is among the threads whose clocks are known.
    living: Collection[int] = _living(watched)
    told: dict[int, int] = {}
    for _, slot in ended:
        if slot.cpu_ns is not None and slot.tid not in living:
            told[slot.tid] = max(told.get(slot.tid, 0), slot.cpu_ns)
    known = {known.ns_tid: known.cpu_ns for known in watched.threads.forgotten}
    return sum(max(cpu_ns - known.get(tid, 0), 0) + least_ns for tid, cpu_ns in told.items())


def _living(watched: Process) -> Mapping[int, KnownThread]:
    """Return the living threads by TID as published."""
    if watched.ns_pid == watched.key.pid:
        return watched.threads.known
    return {known.ns_tid: known for known in watched.threads.known.values()}


def _born_ns(known: KnownThread) -> int:
    return known.stat.start_ticks * NS_PER_TICK
