"""Knows where a loop of uvloop, and the loop of libuv in it, have what a look needs: 64 bits, Linux.

uvloop (loop.pxd): 0.14 to 0.16 have one field more in front of the deque than 0.17 and later. libuv
(include/uv.h, uv/unix.h): the fields in front of ``time`` have stayed the same; a mutex of the C library is
among them.
Nothing is believed without proof: the loop has to be run by the very thread that says so, and libuv's loop
has to lead back to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

from threadwatch.names.memory.snapshot import word
from threadwatch.tasks.layout import malformed

UV_LOOP = 24
"""In a ``Loop``, behind its head and Cython's table of methods: the address of libuv's loop."""
LOOP_SIZE = 112
"""Bytes of a ``Loop`` that :func:`parse_loop` needs."""
COUNT = 8
"""In what ``internal_fields`` leads to: how many iterations there have been (libuv 1.45 and later, which is
uvloop 0.18). Older ones have 0 there."""

_INTERNAL_FIELDS = 40
_BACKEND_FD = 64
_TIME = {"x86_64": 544, "aarch64": 552}
"""By ``uname -m``, because a mutex takes 40 bytes, or 48."""
_INT = Struct("<i")
_MOST_FDS = 1 << 30


@dataclass(frozen=True, slots=True)
class LoopLayout:
    """Offsets in a ``Loop``."""

    running: int
    """An int32: 1 while it runs."""
    thread_id: int
    """The ident of the thread that runs it; 0: none does."""
    ready: int
    """The address of a deque: the callbacks that are ready."""
    counts: bool
    """Libuv may count its iterations: see :data:`COUNT`."""


LAYOUTS = (
    LoopLayout(running=56, thread_id=64, ready=96, counts=True),
    LoopLayout(running=56, thread_id=64, ready=104, counts=False),
)
"""That of uvloop 0.17 and later, and that of 0.14 to 0.16."""


class LoopHead(NamedTuple):
    """A ``Loop``, by its first bytes."""

    type: int
    uv: int
    """The address of libuv's loop."""
    ready: int
    """That of its deque."""


class UvHead(NamedTuple):
    """Libuv's loop, by its first bytes."""

    loop: int
    """The address of the ``Loop`` that it belongs to."""
    internal_fields: int
    backend_fd: int
    """The descriptor of its epoll."""
    time_ms: int
    """CLOCK_MONOTONIC, as libuv has read it last: after its selector, before timers are run, and whenever a
    timer is started."""


def parse_loop(data: bytes, layout: LoopLayout, ob_type: int, ident: int) -> LoopHead | None:
    """Return a ``Loop`` by its first bytes; None: the thread with that ident does not run it."""
    if word(data, layout.thread_id) != ident or _INT.unpack_from(data, layout.running)[0] != 1:
        return None
    return LoopHead(word(data, ob_type), word(data, UV_LOOP), word(data, layout.ready))


def uv_size(machine: str) -> int:
    """Return how many bytes of libuv's loop :func:`parse_uv` needs.

    :raises Malformed: it is not known where that machine has the time.
    """
    if machine not in _TIME:
        raise malformed(f"the loops of uvloop are not known on {machine}")
    return _TIME[machine] + 8


def parse_uv(data: bytes) -> UvHead:
    """Return libuv's loop, by as many of its first bytes as :func:`uv_size` says.

    :raises Malformed: it is none.
    """
    (backend_fd,) = _INT.unpack_from(data, _BACKEND_FD)
    if not 0 <= backend_fd < _MOST_FDS:
        raise malformed("a loop of libuv has no epoll")
    return UvHead(
        word(data, 0), word(data, _INTERNAL_FIELDS), backend_fd, word(data, len(data) - 8)
    )
