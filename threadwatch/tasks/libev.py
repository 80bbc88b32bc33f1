"""Finds libev's loop in a hub of gevent, and reads its count of iterations and gevent's queue of callbacks.

gevent's ``loop`` is a struct of Cython's around a loop of libev; how large either is differs by release and
by how it was compiled. Two things are proof enough: gevent has set libev's loop as that loop's own user data,
and in gevent's loop, the address of libev's stands right in front of that of a ``CallbackFIFO``. Other loops
of gevent, on libuv or through cffi, have neither.

gevent: src/gevent/libev/corecext.pyx. libev: ev_vars.h; the monotonic time is the third field, and three
numbers of 4 bytes stand in front of ``userdata``: ``origflags``, ``loop_count``, ``loop_depth``. Behind them
may be 4 bytes that are unused. The flags are proof of which are which: gevent sets two of them.
"""

from __future__ import annotations

import itertools
from struct import Struct
from typing import NamedTuple

from threadwatch.errors import ReadError
from threadwatch.names.memory.snapshot import Memory, half, word
from threadwatch.names.memory.walk import Python
from threadwatch.tasks.layout import malformed
from threadwatch.tasks.objects import Objects, words

_LOOP, _QUEUE, _NONE = "loop", "CallbackFIFO", "NoneType"
_OF_HUB = 40
_OF_LOOP = 48
"""Words of a hub and of a loop that are looked through."""
_BASICSIZE = 32
"""Where a type has the size of its objects (Include/cpython/object.h)."""
_SMALLEST, _LARGEST = 32, 256
"""Bytes of a queue, and of a callback."""
_TIME = 16
_FIRST_USERDATA = 256
_SPAN = 2048
"""Bytes of libev's loop that are looked through."""
_STEP = 256
_NUMBERS = 16
"""Bytes in front of ``userdata`` that have these numbers."""
_FLAGS = 0x03000000
"""EVFLAG_NOENV and EVFLAG_FORKCHECK, which gevent always sets."""
_MOST_DEPTH = 1000
_MOST_S = 1e10
"""No clock shows more seconds."""
_FLOAT = Struct("<d")
_TRIES = 3
_MOST_READY = 500
"""Callbacks that are counted: each takes a read."""


class EvLoop(NamedTuple):
    """The loop of a hub."""

    address: int
    """That of libev's loop."""
    counter: int
    """The place in it of the number of iterations, in bytes."""
    userdata: int
    """That of ``userdata``."""
    queue: int
    """The address of the first callback in gevent's queue."""


class Turn(NamedTuple):
    """Libev's loop at one moment."""

    iteration: int
    """How often it has waited for events, or asked for them."""
    time_ns: int
    """CLOCK_MONOTONIC, as libev has read it last."""


class Libev:
    """The loops of libev in one process."""

    def __init__(self, python: Python, objects: Objects) -> None:
        self._python = python
        self._objects = objects

    def find(self, memory: Memory, hub: int) -> EvLoop | None:
        """Return the loop of the hub at an address; None: it is of another kind.

        :raises Gone: the program has ended.
        :raises ReadError: it does not run just now, or is not as gevent makes it.
        """
        for loop in words(memory, hub, _OF_HUB):
            if self._type_of(memory, loop, _LOOP):
                inner = words(memory, loop, _OF_LOOP)
                for address, queue in itertools.pairwise(inner):
                    if address and (a_type := self._type_of(memory, queue, _QUEUE)):
                        first = queue + self._size(memory, a_type) - 16
                        return EvLoop(address, *_places(memory, address), first)
        return None

    @staticmethod
    def turn(memory: Memory, loop: EvLoop) -> Turn:
        """Return what libev says now. Raises Gone or ReadError."""
        data = memory.read(loop.address + _TIME, loop.userdata - _TIME + 8)
        if word(data, loop.userdata - _TIME) != loop.address:
            raise malformed("a loop of libev has been destroyed")
        (time_s,) = _FLOAT.unpack_from(data)
        if not 0 <= time_s < _MOST_S:
            raise malformed("the time of a loop of libev is none")
        return Turn(half(data, loop.counter - _TIME), round(time_s * 1e9))

    @staticmethod
    def iteration(memory: Memory, loop: EvLoop) -> int | None:
        """Return the number of the iteration alone; None: the loop has been destroyed. Raises Gone."""
        try:
            data = memory.read(loop.address + loop.counter, loop.userdata - loop.counter + 8)
        except ReadError:
            return None
        return half(data, 0) if word(data, loop.userdata - loop.counter) == loop.address else None

    def ready(self, memory: Memory, loop: EvLoop) -> int | None:
        """Return how many callbacks wait in gevent's queue; None: not known, or too many. Raises Gone."""
        for _ in range(_TRIES):
            try:
                ends = memory.read(loop.queue, 16)
                count = self._count(memory, word(ends, 0))
                if memory.read(loop.queue, 16) == ends:
                    return count
            except ReadError:
                continue  # the queue has changed meanwhile
        return None

    def _count(self, memory: Memory, at: int) -> int | None:
        """Return how many callbacks there are from one on. Raises Gone or ReadError."""
        a_type = self._objects.type_at(memory, at)
        if self._objects.type(memory, a_type).name == _NONE:
            return 0
        size = self._size(memory, a_type)
        for count in range(_MOST_READY + 1):
            data = memory.read(at, size)
            kind = word(data, self._python.offsets.ob_type)
            if kind != a_type:
                if self._objects.type(memory, kind).name != _NONE:
                    raise malformed("what should be a callback of gevent is none")
                return count
            at = word(data, size - 8)
        return None

    def _size(self, memory: Memory, a_type: int) -> int:
        """Return the bytes of an object of a type. Raises Gone or ReadError."""
        (size,) = words(memory, a_type + _BASICSIZE, 1)
        if size % 8 or not _SMALLEST <= size <= _LARGEST:
            raise malformed(f"what gevent's loop calls has {size} bytes")
        return size

    def _type_of(self, memory: Memory, address: int, name: str) -> int:
        """Return the type of what may be an object, if that has this name; else 0. Raises Gone."""
        if address % 8 or address < 1 << 16:
            return 0
        objects = self._objects
        try:
            a_type = objects.type_at(memory, address)
            metaclass = objects.type_at(memory, self._python.str_type)
            if objects.type_at(memory, a_type) != metaclass:
                return 0
            return a_type if objects.type(memory, a_type).name == name else 0
        except ReadError:
            return 0


def _places(memory: Memory, address: int) -> tuple[int, int]:
    """Return where a loop of libev has its count, and where its own address. Raises Gone or ReadError."""
    data = memory.read(address, _FIRST_USERDATA)
    while len(data) < _SPAN:
        at = len(data)
        data += memory.read(address + at, _STEP)
        for place in range(at, len(data), 8):
            if word(data, place) == address:
                return _count_before(data, place), place
    raise malformed("a loop of libev is not gevent's")


def _count_before(data: bytes, userdata: int) -> int:
    """Return where a loop of libev has its count. Raises Malformed.

    A loop that runs has a depth of 1 at least, so what stands right in front of ``userdata`` is unused if it
    is 0.
    """
    numbers = [half(data, at) for at in range(userdata - _NUMBERS, userdata, 4)]
    first = 1 if numbers[-1] else 0
    flags, _, depth = numbers[first : first + 3]
    if flags & _FLAGS != _FLAGS or not 1 <= depth <= _MOST_DEPTH:
        raise malformed("a loop of libev does not run, or is not gevent's")
    return userdata - _NUMBERS + 4 * (first + 1)
