"""The loops of one process by its memory: when to look for its Python, and when that is another one.

* A process's Python is looked for at the first :meth:`LoopSource.find`, and later as
  :mod:`threadwatch.names.memory.search` says. A process that has no Python that can be read has no loops, and
  that is no error.
* Its memory ends with its program (exec). The kernel gives each program a vector of its own (``auxv``), with
  addresses that are chosen at random: another vector is another program, and what was found is forgotten.
"""

from __future__ import annotations

from threadwatch.errors import Denied, Unsupported
from threadwatch.model.loops import Census, LoopSample
from threadwatch.names.memory.search import PythonSearch
from threadwatch.procfs import MemoryFile
from threadwatch.tasks.kind import Asleep
from threadwatch.tasks.loops import Loops


class LoopSource:
    """Tells the loops of one process. Only the thread that may wait for its memory calls it."""

    def __init__(self, ns_pid: int) -> None:
        """``ns_pid``: the process's PID in its own PID namespace."""
        self._search = PythonSearch(ns_pid)
        self._finds = 0
        """How often it has been looked for, or could have been."""
        self._unsupported = False
        """It is a Python whose tasks cannot be read."""
        self._auxv = b""
        self._ahead_ns = 0
        """The time by which CLOCK_MONOTONIC of the process is ahead of ours."""
        self._loops: Loops | None = None

    @property
    def tids(self) -> frozenset[int]:
        """Return the threads that were found with a loop, in the process's own PID namespace."""
        return frozenset() if self._loops is None else self._loops.tids

    def begin(self, auxv: bytes, ahead_ns: int) -> None:
        """Begin with memory that has just been opened; ``auxv``: the vector of its program.

        ``ahead_ns``: how far the process's CLOCK_MONOTONIC is ahead of ours, in its time namespace.
        """
        self._ahead_ns = ahead_ns
        if auxv != self._auxv:
            self._auxv, self._loops = auxv, None
            self._search.forget()
            self._unsupported = False

    def find(self, memory: MemoryFile, now_ns: int) -> None:
        """See which threads run a loop now; about once a second. ``now_ns``: CLOCK_MONOTONIC.

        :raises Gone: the program has ended.
        :raises ReadError: its source is ``tasks``; what was found before stays.
        """
        if self._loops is None:
            self._loops = self._first(memory)
        if self._loops is not None:
            self._loops.find(memory, now_ns + self._ahead_ns)

    def _first(self, memory: MemoryFile) -> Loops | None:
        """Return the loops, once the process's Python has been found. Raises Gone or Denied."""
        if self._unsupported:
            return None
        self._finds += 1
        found = self._search.look_in(memory, self._auxv, self._finds)
        if found is None:
            failure = self._search.failure
            if isinstance(failure, Denied):
                raise failure
            self._unsupported = isinstance(failure, Unsupported)
            return None
        self._search.forget()  # which would keep the memory open
        try:
            return Loops(found.python)
        except Unsupported:
            self._unsupported = True
            return None

    def sample(
        self, memory: MemoryFile, now_ns: int, asleep: Asleep, *, functions: bool
    ) -> list[LoopSample]:
        """Return what has each loop now: see :meth:`.Loops.sample`. Raises :class:`Gone`."""
        if self._loops is None:
            return []
        now_ns += self._ahead_ns
        return self._loops.sample(memory, now_ns, functions=functions, asleep=asleep)

    def iterations(self, memory: MemoryFile) -> dict[int, int]:
        """Return by TID the number of each loop's iteration: see :meth:`.Loops.iterations`. Raises Gone."""
        return {} if self._loops is None else self._loops.iterations(memory)

    def skip(self, now_ns: int) -> None:
        """Note that all loops wait for events, as the last sample has found: see :meth:`.Loops.skip`."""
        if self._loops is not None:
            self._loops.skip(now_ns + self._ahead_ns)

    def census(self, memory: MemoryFile, now_ns: int, most: int) -> list[Census]:
        """Return all tasks of each loop, by name: see :meth:`.Loops.census`.

        :raises Gone: the program has ended.
        :raises ReadError: its source is ``tasks``; there may be more than ``most``.
        """
        if self._loops is None:
            return []
        return self._loops.census(memory, now_ns + self._ahead_ns, most)
