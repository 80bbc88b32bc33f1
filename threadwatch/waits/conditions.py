"""Finds the threads that wait for a GIL where the C library is musl, in the memory of their process.

By glibc, a thread that waits for a condition sleeps on a futex in the condition itself. By musl it sleeps in
a node on its own stack, and the condition has a list of the nodes. On 64 bits:

* ``pthread_cond_t`` (musl, src/internal/pthread_impl.h): ``_c_shared`` at 0, empty here; ``_c_head`` at 8,
  the newest node; ``_c_clock`` at 16;
* ``struct waiter`` (src/thread/pthread_cond_timedwait.c): ``prev`` at 0, ``next`` at 8, the futex
  ``barrier`` at 20.

A GIL has two conditions: that it is free, and that another thread has taken it (CPython, pycore_gil.h).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from threadwatch.errors import ReadError
from threadwatch.names.slots import Gil

_CONDITIONS = (32, 120)
"""Where they are in ``struct _gil_runtime_state``."""
_CONDITION = struct.Struct("=QQi")
_CLOCK_MONOTONIC = 1
"""The clock of CPython's conditions. One of glibc that begins with 0 has never been used, and has 0 here."""
_NEXT = struct.Struct("=8xQ")
_BARRIER = 20
_MOST = 1024
"""Nodes of one list that are followed: a target can make it a circle."""


def waiters(read: Callable[[int, int], bytes], gils: Sequence[Gil]) -> set[int] | None:
    """Return the futexes of all threads that wait for these GILs; None: the C library is not musl.

    ``read`` takes an address and a size. Lists that change meanwhile, or cannot be read, give what was found.
    """
    found: set[int] = set()
    is_musl = False
    for gil in gils:
        for offset in _CONDITIONS:
            try:
                shared, node, clock = _CONDITION.unpack(read(gil.address + offset, _CONDITION.size))
                if shared or clock != _CLOCK_MONOTONIC:
                    break
                is_musl = True
                for _ in range(_MOST):
                    if not node or node + _BARRIER in found:
                        break
                    found.add(node + _BARRIER)
                    (node,) = _NEXT.unpack(read(node, _NEXT.size))
            except ReadError:
                continue
    return found if is_musl else None
