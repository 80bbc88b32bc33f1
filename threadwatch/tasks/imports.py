"""Tells whether a process has imported modules, and where they are: for kinds of loops that few have.

As long as nothing is imported, a question costs three reads: whether ``sys.modules`` is still the same.
"""

from __future__ import annotations

from threadwatch.names.memory.interpreter import FIRST_LOOK
from threadwatch.names.memory.objects import KEYS_HEAD
from threadwatch.names.memory.snapshot import Memory, Place, Snapshot
from threadwatch.names.memory.walk import Dicts, Python
from threadwatch.tasks.layout import malformed


class Imports:
    """Modules of one process, by name."""

    def __init__(self, python: Python, names: frozenset[bytes]) -> None:
        """``names``: with the packages that they are in; no longer than 32 characters."""
        self._python = python
        self._names = names
        self._places: tuple[Place, ...] = ()
        self._contents: list[bytes] = []
        self._found: dict[bytes, int] = {}

    def find(self, memory: Memory, interpreter: int) -> dict[bytes, int]:
        """Return the addresses of those of the modules that have been imported.

        :raises Gone: the program has ended.
        :raises ReadError: ``sys.modules`` grows just now, or is no such dict.
        """
        if not self._places or memory.read_each(self._places) != self._contents:
            self._places = ()
            self._found = self._search(memory, interpreter)
        return self._found

    def _search(self, memory: Memory, interpreter: int) -> dict[bytes, int]:
        o = self._python.offsets
        snapshot = Snapshot(memory, FIRST_LOOK)
        modules = snapshot.word(interpreter + o.modules)
        dicts = Dicts(snapshot, self._python)
        places = (
            (interpreter + o.modules, 8),
            (modules + o.object_size, o.ma_values - o.object_size),
            (dicts.keys_of(modules), KEYS_HEAD),
        )
        found = {name: at for name, (_, at) in dicts.values(modules, self._names).items()}
        self._contents = [snapshot.read(*place) for place in places]
        self._places = places
        return found


def attribute(snapshot: Snapshot, python: Python, module: int, name: bytes) -> int | None:
    """Return the address of what a module has by that name; None: it has none yet. Raises ReadError."""
    o = python.offsets
    if snapshot.word(module + o.ob_type) != python.module_type:
        raise malformed("what should be a module is none")
    found = Dicts(snapshot, python).values(snapshot.word(module + o.object_size), frozenset({name}))
    return found[name][1] if name in found else None
