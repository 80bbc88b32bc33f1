"""Finds the thread that has called exec: it is the leader now, and all others have ended. Pure.

What exec does is in fs/exec.c, de_thread().
"""

from __future__ import annotations

from collections.abc import Mapping

from threadwatch.model.readings import Identity, ThreadReading


def find_caller(
    before: ThreadReading,
    leader: ThreadReading,
    gone: Mapping[Identity, ThreadReading],
    most_ns: int,
) -> Identity | None:
    """Return which of the threads that have gone is the leader now; None: the leader is the same as before.

    ``before``, ``leader``: the leader as it was read last, and now. ``gone``: the threads that are not there
    any more, as they were read last. ``most_ns``: the CPU time that the process can have used meanwhile.
    """
    certain = not leader.can_be(before)
    if not certain and leader.cpu_ns - before.cpu_ns <= most_ns:
        return None
    callers = [
        identity
        for identity, thread in gone.items()
        if leader.can_be(thread) and (certain or leader.cpu_ns - thread.cpu_ns <= most_ns)
    ]
    return max(callers, key=lambda identity: gone[identity].cpu_ns, default=None)
