"""Finds ``threading._active`` of each interpreter of a process.

:func:`find_way` follows the pointers that lead there, and keeps the bytes that it has read: the same bytes
again mean that it still leads there. :mod:`.entries` reads the dict at its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from threadwatch.errors import Malformed
from threadwatch.names.memory.gils import find_gils, gil_places
from threadwatch.names.memory.pages import Pages
from threadwatch.names.memory.snapshot import SOURCE, Memory, Place, Snapshot, half
from threadwatch.names.memory.walk import Dicts, Python, interpreters, thread_states
from threadwatch.names.slots import Gil

PAGES = 4096
"""How many pages may be read in one snapshot: to find where entries begin, or to follow a batch of them."""
_NAMES = frozenset({b"_active", b"_main_thread"})
_THREADING = frozenset({b"threading"})


@dataclass(frozen=True, slots=True)
class Root:
    """The beginning of one interpreter's ``threading``, by addresses."""

    interpreter: int
    active: int
    """The dict ``threading._active``."""
    main_thread: int
    """The object ``threading._main_thread``."""


@dataclass(frozen=True, slots=True)
class Way:
    """All that leads to the roots, and what was found with them."""

    pages: Pages[None] | None = None
    roots: tuple[Root, ...] = ()
    """The main interpreter's first."""
    gils: tuple[Gil, ...] = ()
    """The GILs that are in use, the main interpreter's first."""
    lacks_threading: bool = False
    """The main interpreter has not imported threading, and the process's main thread is its own."""

    def is_the_same(self, memory: Memory) -> bool:
        """Return whether the bytes on the way are what they were. Raises Gone."""
        return self.pages is not None and not self.pages.changed(memory)


NO_WAY: Final = Way()


def find_way(memory: Memory, python: Python, ns_pid: int) -> Way:
    """Follow the pointers from the runtime to the dicts ``threading._active``.

    :raises Gone: the program has ended.
    :raises ReadError: there is no way now.
    """
    snapshot, o = Snapshot(memory, PAGES), python.offsets
    dicts = Dicts(snapshot, python)
    way: list[Place] = [(python.runtime + o.interpreters, 8)]
    roots: list[Root] = []
    lacks_threading = False
    # the newest come first in the list; where two know a thread, its name in the main one counts
    found_interpreters = interpreters(snapshot, python)
    main = found_interpreters[-1] if found_interpreters else 0
    for interpreter in reversed(found_interpreters):
        modules = snapshot.word(interpreter + o.modules)
        way += [(interpreter + o.next_interpreter, 8), (interpreter + o.modules, 8)]
        found = dicts.values(modules, _THREADING).get(b"threading") if modules else None
        if found is None:
            if modules:  # until more is imported
                way.append((modules + o.object_size, 8))
            if interpreter == main:
                lacks_threading = _is_main_thread(snapshot, python, interpreter, ns_pid)
            continue
        place, module = found
        if snapshot.word(module + o.ob_type) != python.module_type:
            raise Malformed(SOURCE, "threading is no module")
        names = snapshot.word(module + o.object_size)
        own = dicts.values(names, _NAMES)
        way += [(modules + o.ma_keys, 8), (place, 8), (module + o.object_size, 8)]
        way += [(names + o.ma_keys, 8), *((at, 8) for at, _ in own.values())]
        if len(own) < len(_NAMES):  # it is being imported
            way.append((names + o.object_size, 8))
            continue
        active, main_thread = own[b"_active"][1], own[b"_main_thread"][1]
        if snapshot.word(active + o.ob_type) != python.dict_type:
            raise Malformed(SOURCE, "threading._active is no dict")
        roots.append(Root(interpreter, active, main_thread))
    gils = find_gils(snapshot, python)
    way += gil_places(snapshot, python, found_interpreters)
    pages = Pages((None, (place, snapshot.read(*place))) for place in way)
    return Way(pages, tuple(roots), gils, lacks_threading)


def _is_main_thread(snapshot: Snapshot, python: Python, interpreter: int, ns_pid: int) -> bool:
    """Return whether the process's main thread is one of the interpreter's."""
    offset = python.tid_offset
    for ident, (native, _) in thread_states(snapshot, python, interpreter).items():
        if native == ns_pid:
            return True
        if offset and half(snapshot.read(ident + offset, 4), 0) == ns_pid:
            return True
    return False
