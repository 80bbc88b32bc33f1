"""The loops of one process by its memory: when to look for its Python, and when that is another one.

* A process's Python is looked for at the first :meth:`LoopSource.find`. Where that fails, it is looked for
  again after 1, 2, 4 … 32 calls: it may be just starting. A process that has no Python that can be read has
  no loops, and that is no error.
* Its memory ends with its program (exec). The kernel gives each program a vector of its own (``auxv``), with
  addresses that are chosen at random: another vector is another program, and what was found is forgotten.
"""

from __future__ import annotations

from threadwatch.errors import Denied, ReadError, Unsupported
from threadwatch.model.loops import Census, LoopSample
from threadwatch.names.memory.interpreter import FIRST_LOOK, find_python
from threadwatch.names.memory.snapshot import Snapshot
from threadwatch.procfs import MemoryFile
from threadwatch.tasks.kind import Asleep
from threadwatch.tasks.loops import Loops

_LONGEST_WAIT = 32


class LoopSource:
    """Tells the loops of one process. Only the thread that may wait for its memory calls it."""

    def __init__(self, ns_pid: int) -> None:
        """``ns_pid``: the process's PID in its own PID namespace."""
        self._ns_pid = ns_pid
        self._auxv = b""
        self._ahead_ns = 0
        """The time by which CLOCK_MONOTONIC of the process is ahead of ours."""
        self._loops: Loops | None = None
        self._skip, self._wait = 0, 1

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
            self._skip, self._wait = 0, 1

    def find(self, memory: MemoryFile, now_ns: int) -> None:
        """See which threads run a loop now; about once a second. ``now_ns``: CLOCK_MONOTONIC.

        :raises Gone: the program has ended.
        :raises ReadError: its source is ``tasks``; what was found before stays.
        """
        if self._loops is None:
            if self._skip:
                self._skip -= 1
                return
            self._skip, self._wait = self._wait, min(2 * self._wait, _LONGEST_WAIT)
            try:
                python = find_python(Snapshot(memory, FIRST_LOOK), self._auxv, self._ns_pid)
                self._loops = Loops(python)
            except Denied:
                raise
            except ReadError as error:
                if isinstance(error, Unsupported):
                    self._skip = 1 << 62
                return
        self._loops.find(memory, now_ns + self._ahead_ns)

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
