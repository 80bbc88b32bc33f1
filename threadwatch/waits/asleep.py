"""Tells what a thread slept in when it was sampled: pure, no file is read here."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from threadwatch.errors import ReadError
from threadwatch.procfs import parse_syscall
from threadwatch.tasks.kind import ELSEWHERE
from threadwatch.waits.records import SampledThread


def slept_in(thread: SampledThread | None, epolls: AbstractSet[int]) -> int | None:
    """Return the descriptor of the epoll that a thread waited for, or :data:`.ELSEWHERE`.

    None: it ran, was ready to, or was not sampled. ``epolls``: the numbers of the calls that wait for one.
    """
    if thread is None or thread.state == "running":
        return None
    try:
        call = parse_syscall(thread.raw)
    except ReadError:  # its state is doubted, which that of a thread in an epoll is not
        return ELSEWHERE
    if call is None or call.number not in epolls:
        return ELSEWHERE
    return call.args[0] & 0xFFFFFFFF
