"""Finds the GILs of a process that does not publish, by the offsets of its Python.

``struct _gil_runtime_state`` (CPython, Include/internal/pycore_gil.h) has the same fields at the same places
in 3.9 to 3.15; free-threaded builds have an int ``enabled`` in front, which is 0 as long as there is none.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence

from threadwatch.errors import Malformed
from threadwatch.names.memory.snapshot import SOURCE, Place, Snapshot, half
from threadwatch.names.memory.walk import Python, interpreters
from threadwatch.names.slots import Gil
from threadwatch.publisher.layout import MAX_OFFSET

_SIZES = {"aarch64": 224}
_SIZE = 208
"""Bytes from ``interval`` to the end: the mutexes and conditions of glibc differ between machines."""
_TOP = 1 << 63


def gil_places(memory: Snapshot, python: Python, interpreters: Sequence[int]) -> list[Place]:
    """Return what has to stay the same for the GILs in use to be those that they are.

    A free-threaded build can be given a GIL later: by an extension that cannot do without.
    """
    o = python.offsets
    if o.gil is None:
        return []
    places = [(interpreter + o.gil, 8) for interpreter in interpreters]
    if o.free_threaded:
        places += [(start, 4) for place in places if (start := memory.word(place[0]))]
    return places


def find_gils(memory: Snapshot, python: Python) -> tuple[Gil, ...]:
    """Return the GILs in use, the main interpreter's first, each once; none where threads run without one.

    :raises Gone: the program has ended.
    :raises ReadError: they cannot be read.
    """
    o = python.offsets
    if max(o.ident, o.native) > MAX_OFFSET:
        raise Malformed(SOURCE, "no thread state is so large")
    found: dict[int, Gil] = {}
    for interpreter in reversed(interpreters(memory, python)):
        if o.gil is not None:
            start = memory.word(interpreter + o.gil)
        else:
            start = python.runtime + (o.runtime_gil or 0)
        if not start or start % 8 or start >= _TOP:
            continue  # the interpreter is just being made, or ends
        if o.free_threaded and not half(memory.read(start, 4), 0):
            continue
        address = start + o.gil_start
        size = _SIZES.get(platform.machine(), _SIZE)
        found.setdefault(address, Gil(address, size, o.ident, o.native))
    return tuple(found.values())
