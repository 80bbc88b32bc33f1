"""Tells whether a process has imported modules, and where they are: once for all kinds of loops.

As long as nothing is imported, a question costs three reads: whether ``sys.modules`` is still the same.
"""

from __future__ import annotations

from threadwatch.errors import ReadError
from threadwatch.names.memory.interpreter import FIRST_LOOK
from threadwatch.names.memory.objects import KEYS_HEAD
from threadwatch.names.memory.snapshot import Memory, Place, Snapshot
from threadwatch.names.memory.walk import Dicts, Python, interpreters
from threadwatch.tasks.layout import malformed
from threadwatch.tasks.objects import Objects

_OS = b"os"
_TRIES = 3


class Imports:
    """Modules of one process, by name."""

    def __init__(self, python: Python, names: frozenset[bytes]) -> None:
        """``names``: with the packages that they are in; no longer than 32 characters."""
        self._python = python
        self._names = names
        self._places: tuple[Place, ...] = ()
        self._contents: list[bytes] = []
        self.found: dict[bytes, int] = {}
        """The addresses of those that have been imported."""
        self.interpreter = 0
        """The address of the main interpreter."""

    def find(self, memory: Memory) -> None:
        """See which of the modules have been imported.

        :raises Gone: the program has ended.
        :raises ReadError: ``sys.modules`` grows just now, or is no such dict.
        """
        if self._places and memory.read_each(self._places) == self._contents:
            return
        self._places = ()
        for tries_left in reversed(range(_TRIES)):
            try:
                self._search(memory)
            except ReadError:
                if not tries_left:
                    raise
            else:
                return

    def standard_files(self, memory: Memory, objects: Objects) -> str:
        """Return the directory of Python's own library, with a slash at the end.

        :raises Gone: the program has ended.
        :raises ReadError: the module ``os`` has not been imported, or has no file.
        """
        snapshot = Snapshot(memory, FIRST_LOOK)
        os_at = self.found.get(_OS)
        file = attribute(snapshot, self._python, os_at, b"__file__") if os_at else None
        if file is None:
            raise malformed("nothing says where Python's own library is")
        return objects.text(snapshot, file).rpartition("/")[0] + "/"

    def _search(self, memory: Memory) -> None:
        o = self._python.offsets
        snapshot = Snapshot(memory, FIRST_LOOK)
        found = interpreters(snapshot, self._python)[-1:]
        modules = snapshot.word(found[0] + o.modules) if found else 0
        if not modules:
            self.found, self.interpreter = {}, 0
            return
        interpreter = found[0]
        dicts = Dicts(snapshot, self._python)
        places = (
            (interpreter + o.modules, 8),
            (modules + o.object_size, o.ma_values - o.object_size),
            (dicts.keys_of(modules), KEYS_HEAD),
        )
        wanted = dicts.values(modules, self._names | {_OS})
        self.found = {name: at for name, (_, at) in wanted.items()}
        self.interpreter = interpreter
        self._contents = [snapshot.read(*place) for place in places]
        self._places = places


def attribute(snapshot: Snapshot, python: Python, module: int, name: bytes) -> int | None:
    """Return the address of what a module has by that name; None: it has none yet. Raises ReadError."""
    o = python.offsets
    if snapshot.word(module + o.ob_type) != python.module_type:
        raise malformed("what should be a module is none")
    found = Dicts(snapshot, python).values(snapshot.word(module + o.object_size), frozenset({name}))
    return found[name][1] if name in found else None
