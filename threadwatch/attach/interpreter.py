"""Finds the main interpreter of another process, the threads that it knows, and whether it runs scripts.

Nothing that is read here is believed before it fits what is known from elsewhere: the structures point back
to each other, they lie in memory that the process itself writes to, and the TIDs are those of the process's
threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from threadwatch.attach.memory import Memory, Region
from threadwatch.attach.offsets import SIZES, Offsets, parse_offsets
from threadwatch.errors import Malformed, ReadError

_WORD = Struct("<Q")
_SIGNED = Struct("<q")
_INT = Struct("<i")
_MOST_INTERPRETERS = 10_000
_MOST_THREADS = 100_000
_TRIES = 20
"""How often a list is read that changes meanwhile."""
_SOURCE = "interpreter"


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread that Python knows."""

    state: int
    """The address of its thread state."""
    ns_tid: int
    """Its TID as the process sees it."""
    is_main: bool


class Interpreter:
    """The main interpreter of a Python of the minor version ``minor`` whose ``_PyRuntime`` is at ``runtime``.

    :raises Malformed: there is none, or something does not fit.
    :raises ReadError: its memory cannot be read.
    """

    def __init__(
        self, memory: Memory, regions: tuple[Region, ...], runtime: int, minor: int
    ) -> None:
        self._memory = memory
        self.regions = regions
        """The memory that the process may write to; to be read again when new threads come.

        Written by :mod:`threadwatch.attach.subject`.
        """
        self._runtime = runtime
        self.offsets: Offsets = parse_offsets(memory.read(runtime, SIZES[minor]))
        if not self._is_writable(runtime, self.offsets.runtime_size):
            raise Malformed(_SOURCE, "_PyRuntime is not in the program's own data")
        self.address, self.is_only = self._find()

    def _find(self) -> tuple[int, bool]:
        """Return the interpreter with the id 0, and whether it is the only one."""
        offsets, seen = self.offsets, set[int]()
        at = self._word(self._runtime + offsets.interpreters)
        main = 0
        while at and at not in seen and len(seen) < _MOST_INTERPRETERS:
            seen.add(at)
            if not self._is_writable(at, offsets.interpreter_size):
                raise Malformed(_SOURCE, f"{at:#x} is not in the program's own data")
            if _SIGNED.unpack(self._memory.read(at + offsets.interpreter_id, 8))[0] == 0:
                main = at
            at = self._word(at + offsets.next_interpreter)
        if at or not main:
            raise Malformed(_SOURCE, "the list of interpreters has no main one or no end")
        return main, len(seen) == 1

    def runs_scripts(self) -> bool:
        """Return whether the interpreter may run scripts (off: ``-X disable-remote-debug`` and the like)."""
        flag: int = _INT.unpack(self._memory.read(self.address + self.offsets.enabled, 4))[0]
        if flag not in (0, 1):
            raise Malformed(_SOURCE, f"remote debugging is {flag}, which is neither on nor off")
        return flag == 1

    def is_ending(self) -> bool:
        """Return whether a thread has begun to finalize the interpreter."""
        return self._word(self._runtime + self.offsets.finalizing) != 0

    def threads(self) -> list[Thread]:
        """Return the threads that the interpreter knows, the youngest first.

        :raises Malformed: the list makes no sense, however often it is read.
        """
        for _ in range(_TRIES - 1):
            try:
                return self._threads()
            except ReadError:
                continue
        return self._threads()

    def _threads(self) -> list[Thread]:
        offsets, found = self.offsets, list[Thread]()
        main = self._word(self.address + offsets.main_thread)
        before, at = 0, self._word(self.address + offsets.threads)
        while at:
            if len(found) >= _MOST_THREADS:
                raise Malformed(_SOURCE, "the list of threads has no end")
            links = offsets.previous, offsets.next, offsets.interpreter, offsets.native_id
            first, last = min(links), max(links) + 8
            data = self._memory.read(at + first, last - first)
            previous, following, interpreter, native_id = (
                _WORD.unpack_from(data, link - first)[0] for link in links
            )
            if (previous, interpreter) != (before, self.address):
                raise Malformed(_SOURCE, "the list of threads does not hang together")
            found.append(Thread(at, native_id, at == main))
            before, at = at, following
        if main and not any(thread.is_main for thread in found):
            raise Malformed(_SOURCE, "the main thread is not among the threads")
        return found

    def check(self, thread: Thread) -> None:
        """Check that a thread state is now the thread's, in the interpreter's list, and writable.

        Call this while the thread is held: then the answer stays true.

        :raises Malformed: it is not.
        """
        offsets, at = self.offsets, thread.state
        if not self._is_writable(at, offsets.thread_size):
            raise Malformed(_SOURCE, "the thread's state is not in the program's own data")
        previous = self._word(at + offsets.previous)
        following = self._word(at + offsets.next)
        before = (
            self._word(previous + offsets.next)
            if previous
            else self._word(self.address + offsets.threads)
        )
        behind = self._word(following + offsets.previous) if following else at
        if (before, behind, self._word(at + offsets.interpreter)) != (at, at, self.address):
            raise Malformed(_SOURCE, "the thread is no longer in the list of threads")
        if self._word(at + offsets.native_id) != thread.ns_tid:
            raise Malformed(_SOURCE, "the thread's state is another thread's by now")

    def _is_writable(self, address: int, size: int) -> bool:
        """Return whether all of it lies in private, writable mappings that touch."""
        end = address + size
        for region in self.regions:  # in the order of addresses
            if region.start <= address < region.end:
                address = region.end
                if address >= end:
                    return address > 0
        return False

    def _word(self, address: int) -> int:
        value: int = _WORD.unpack(self._memory.read(address, 8))[0]
        return value
