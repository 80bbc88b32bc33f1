"""Finds the Python of one process, once for each program: when to look, and what was found.

* A process is looked into for the first time in its first poll. Where that fails, it is again after 1, 2, 4 …
  32 polls: it may be just starting, or about to become another program. A caller that is not called in each
  poll counts its calls.
* Its memory ends with its program (exec). The reader that is told Gone has to :meth:`PythonSearch.forget`
  what was found: the next program is looked into anew.
"""

from __future__ import annotations

from typing import NamedTuple

from threadwatch.errors import Gone, ReadError
from threadwatch.names.memory.interpreter import FIRST_LOOK, find_python
from threadwatch.names.memory.snapshot import Snapshot
from threadwatch.names.memory.walk import Python
from threadwatch.procfs import MemoryFile, ProcessDir

_LONGEST_WAIT = 32


class Found(NamedTuple):
    """The Python of one process, and the memory that it is in."""

    python: Python
    memory: MemoryFile


class PythonSearch:
    """Looks for the Python of one process."""

    def __init__(self, ns_pid: int) -> None:
        """``ns_pid``: the process's PID in its own PID namespace."""
        self._ns_pid = ns_pid
        self._next_look, self._wait = 0, 1
        self.found: Found | None = None
        self.failure: ReadError | None = None
        """Why it has not been found, if that was looked for."""

    def is_due(self, poll: int) -> bool:
        """Return whether :meth:`look` would look in this poll, or knows it."""
        return self.found is not None or poll >= self._next_look

    def look(self, process: ProcessDir, poll: int) -> Found | None:
        """Look for it, if it is not known and that is due in this poll; return it. Raise nothing."""
        if self.found is not None or not self.is_due(poll):
            return self.found
        self._wait_from(poll)
        try:
            # opened before the vector is read: what that says of another program leads nowhere in this one
            memory = process.open_memory()
            return self._find(memory, process.read("auxv", "auxv"))
        except Gone:
            return None
        except ReadError as error:
            self.failure = error.to_keep()
            return None

    def look_in(self, memory: MemoryFile, auxv: bytes, poll: int) -> Found | None:
        """Do the same in memory that is open; ``auxv``: the vector of its program. Raises Gone."""
        if self.found is not None or not self.is_due(poll):
            return self.found
        self._wait_from(poll)
        try:
            return self._find(memory, auxv)
        except Gone:
            raise
        except ReadError as error:
            self.failure = error.to_keep()
            return None

    def _wait_from(self, poll: int) -> None:
        self._next_look = poll + self._wait
        self._wait = min(2 * self._wait, _LONGEST_WAIT)

    def _find(self, memory: MemoryFile, auxv: bytes) -> Found:
        python = find_python(Snapshot(memory, FIRST_LOOK), auxv, self._ns_pid)
        self.found, self.failure, self._wait = Found(python, memory), None, 1
        return self.found

    def forget(self, *, look_at_once: bool = True) -> None:
        """Let go of what was found; look again in the next poll, or when that would be due anyway."""
        self.found = None
        if look_at_once:
            self._next_look, self._wait = 0, 1
