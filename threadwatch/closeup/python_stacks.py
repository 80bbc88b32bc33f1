"""Asks py-spy for the Python stacks of one process, also of one in a container.

py-spy tells the TIDs that CPython 3.11 and later has in its memory, which are those of the process's own PID
namespace; of older ones it tells ours, or none. So the TIDs of a process in another namespace are translated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from threadwatch.errors import Gone, ReadError
from threadwatch.procfs import ProcessDir, ProcFS, parse_status
from threadwatch.stacks.dump import Stack
from threadwatch.stacks.py_spy import stacks_of


def python_stacks(pid: int, *, nonblocking: bool = False) -> tuple[Stack, ...]:
    """Return the Python stack of each thread of a process, with the thread's TID in our PID namespace.

    ``nonblocking``: read while it runs; its stacks can then be torn.

    :raises Unusable: there is no py-spy, or it cannot read this process: one line that says why.
    """
    stacks = stacks_of(pid, nonblocking=nonblocking)
    try:
        with ProcFS().open_process(pid) as process:
            own = _own_tids(process)
    except (Gone, ReadError):
        own = {}
    return with_our_tids(stacks, own)


def with_our_tids(stacks: Sequence[Stack], own: Mapping[int, int]) -> tuple[Stack, ...]:
    """Return the stacks with the TIDs of our PID namespace.

    ``own``: TIDs in the process's namespace → in ours; empty where they are the same.
    """
    told = {stack.tid for stack in stacks if stack.tid is not None}
    if not own or len(told & own.keys()) < len(told & set(own.values())):
        return tuple(stacks)
    return tuple(
        stack if stack.tid is None else replace(stack, tid=own.get(stack.tid)) for stack in stacks
    )


def _own_tids(process: ProcessDir) -> dict[int, int]:
    """Return the TIDs in a process's own PID namespace → in ours; nothing if it is in ours."""
    if len(parse_status(process.read("status", "status")).nspid) < 2:
        return {}
    own = {}
    for tid in process.tids():
        try:
            own[parse_status(process.read_task(tid, "status")).nspid[-1]] = tid
        except (Gone, IndexError):
            continue  # the thread has ended
    return own
