"""Finds ``threading._active`` of each interpreter of a process, and the entries that it has.

:func:`find_way` follows the pointers that lead there, and :class:`Entries` reads the dict at their end. Both
keep the bytes that they have read: the same bytes again mean that nothing has changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from threadwatch.errors import Malformed, ReadError
from threadwatch.names.memory.chain import Entry
from threadwatch.names.memory.gils import find_gils, gil_places
from threadwatch.names.memory.objects import KEYS_HEAD, Keys, parse_keys
from threadwatch.names.memory.snapshot import SOURCE, Memory, Place, Snapshot, half, word
from threadwatch.names.memory.walk import Dicts, Python, interpreters, thread_states
from threadwatch.names.slots import Gil

PAGES = 4096
"""How many pages may be read in one snapshot: to find where entries begin, or to follow a batch of them."""
TRIES = 3
_ENTRIES_OF_A_THREAD = 8
_ENTRIES = 4096
"""How many entries ``threading._active`` may have, and more by those of each thread: greenlets have some."""
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

    places: tuple[Place, ...] = ()
    contents: tuple[bytes, ...] = ()
    roots: tuple[Root, ...] = ()
    """The main interpreter's first."""
    gils: tuple[Gil, ...] = ()
    """The GILs that are in use, the main interpreter's first."""
    lacks_threading: bool = False
    """The main interpreter has not imported threading, and the process's main thread is its own."""

    def is_the_same(self, memory: Memory) -> bool:
        """Return whether the bytes on the way are what they were. Raises Gone."""
        return bool(self.places) and tuple(memory.read_each(self.places)) == self.contents


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
    contents = tuple(snapshot.read(*place) for place in way)
    return Way(tuple(way), contents, tuple(roots), gils, lacks_threading)


def _is_main_thread(snapshot: Snapshot, python: Python, interpreter: int, ns_pid: int) -> bool:
    """Return whether the process's main thread is one of the interpreter's."""
    offset = python.tid_offset
    for ident, (native, _) in thread_states(snapshot, python, interpreter).items():
        if native == ns_pid:
            return True
        if offset and half(snapshot.read(ident + offset, 4), 0) == ns_pid:
            return True
    return False


class Entries:
    """The entries of one dict ``threading._active``."""

    __slots__ = ("_active", "_contents", "_places", "_python", "now")

    def __init__(self, python: Python, active: int) -> None:
        self._python = python
        self._active = active
        self._places: tuple[Place, ...] = ()
        """Of the dict, and of its keys."""
        self._contents: tuple[bytes, ...] = ()
        self.now: frozenset[Entry] = frozenset()
        """As they were read last."""

    def read(self, memory: Memory, threads: int) -> None:
        """Read which entries there are, if the dict has changed. ``threads``: how many the process has.

        :raises Gone: the program has ended.
        :raises ReadError: it is no such dict, or changes too fast.
        """
        if self._places and tuple(memory.read_each(self._places)) == self._contents:
            return
        self._places = ()
        o = self._python.offsets
        head = (self._active + o.ob_type, o.ma_values + 8 - o.ob_type)
        for _ in range(TRIES):
            keys = word(memory.read(*head), o.ma_keys - o.ob_type)
            try:
                layout = parse_keys(o, memory.read(keys, KEYS_HEAD))
            except ReadError:
                continue  # it has others by now
            if layout.count > _ENTRIES + _ENTRIES_OF_A_THREAD * threads:
                raise Malformed(
                    SOURCE, f"threading._active has {layout.count} entries for {threads} threads"
                )
            places = head, (keys, max(layout.end, KEYS_HEAD))
            contents = tuple(memory.read_each(places))
            entries = self._parse(contents, layout)
            if entries is not None and tuple(memory.read_each(places)) == contents:
                self._places, self._contents, self.now = places, contents, entries
                return
        raise Malformed(SOURCE, "threading._active changes faster than it can be read")

    def _parse(self, contents: tuple[bytes, ...], layout: Keys) -> frozenset[Entry] | None:
        """Return the entries in the bytes of a dict's head and keys; None if those are not of one time."""
        head, keys = contents
        o = self._python.offsets
        try:
            if not head or parse_keys(o, keys) != layout:
                return None
        except Malformed:
            return None
        if word(head, 0) != self._python.dict_type or word(head, o.ma_values - o.ob_type):
            raise Malformed(SOURCE, "threading._active is no dict")
        pairs = [p for p in layout.pairs(keys[layout.entries : layout.end]) if p[0] and p[1]]
        # ma_used follows the object's head
        return frozenset(pairs) if len(pairs) == word(head, o.object_size - o.ob_type) else None
