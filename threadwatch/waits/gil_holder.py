"""Reads targets' memory: which thread holds a GIL, and which descriptor ``poll`` or ``select`` waits for.

No output shows what is read here: it is only compared with the ids of the process's own threads.

The address of a GIL in a target's table, or of an argument of poll, can be any number. At any
address the kernel lets us read only the target's own memory. So a target can lie about itself,
which it can do anyway, but not about others. Reading unmapped addresses, the kernel's, and pages of
a userfaultfd fails at once. But a page of a mapped file has to be fetched from its file system,
which can be the target's own, and may never answer: see :mod:`threadwatch.reading.reader`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from threadwatch.errors import Gone, ReadError
from threadwatch.names.slots import Gil
from threadwatch.procfs import MemoryFile
from threadwatch.waits.conditions import waiters
from threadwatch.waits.reasons import AskCondition, AskMemory

_TRIES = 3
"""How often to read until the holder is the same before and after."""

_GIL = struct.Struct("=8xQi4x")
"""``last_holder`` and ``locked`` of ``struct _gil_runtime_state`` (CPython, pycore_gil.h)."""
_NO_MORE = -1
"""The value of ``locked`` in a GIL that was destroyed with its interpreter (ceval_gil.c, destroy_gil())."""
_WORD = struct.Struct("=Q")


Answer = list[bytes] | bool | None
"""The memory that was asked for, or whether that thread waits for a GIL; None: that is not known."""


class Holder(NamedTuple):
    """The ids of the thread that holds a GIL; all 0: no thread holds it, or its ids are unknown."""

    ident: int
    """``threading.get_ident()``; 0 unknown."""
    native: int
    """Its TID as the target sees it; 0 unknown."""


NOBODY = Holder(0, 0)


def find_holder(read: Callable[[int, int], bytes], gil: Gil) -> Holder | None:
    """Return the holder of the GIL at one moment during the call; None: it changed too fast to see.

    ``read`` takes an address and a size. ``last_holder`` is the holder only while the GIL is
    locked; and its thread state is valid only if it is still the holder after that has been read.

    :raises ReadError: an error of ``read``; or the memory is not a GIL.
    """
    state, locked = _look(read, gil)
    for _ in range(_TRIES):
        if not locked:
            return NOBODY
        before = state
        try:
            ident = _word(read, state, gil.ident_offset)
            native = _word(read, state, gil.native_offset)
        except ReadError:
            state, locked = _look(read, gil)
            if locked and state == before:
                raise
            continue  # the thread state was freed after its thread had released the GIL
        state, locked = _look(read, gil)
        if locked and state == before:
            return Holder(ident, native)
    return None


def _look(read: Callable[[int, int], bytes], gil: Gil) -> tuple[int, bool]:
    state, locked = _GIL.unpack(read(gil.address, _GIL.size))
    if locked not in (0, 1, _NO_MORE):
        raise ReadError("gil", "malformed", f"locked should be 0 or 1, not {locked}")
    return state, bool(locked == 1 and state)


def _word(read: Callable[[int, int], bytes], address: int, offset: int) -> int:
    if not offset:
        return 0
    (word,) = _WORD.unpack(read(address + offset, _WORD.size))
    return int(word)


class MemoryReads:
    """The reads of one process's memory in one round, and their results."""

    __slots__ = ("answers", "asks", "error", "failed", "gils", "gone", "holders", "memory")

    def __init__(
        self, memory: MemoryFile, gils: Sequence[Gil], asks: Sequence[AskMemory | AskCondition]
    ) -> None:
        self.memory = memory
        self.gils = gils
        self.asks = asks
        self.holders: list[Holder | None] = []
        """The holder of each GIL; None: unknown."""
        self.answers: list[Answer] = []
        self.error: ReadError | None = None
        """The error of a GIL."""
        self.failed: Gil | None = None
        """The GIL with that error."""
        self.gone = False
        """Whether the program of this memory has ended."""

    def run(self) -> None:
        """Read all of it. Raise nothing."""
        try:
            for gil in self.gils:
                try:
                    self.holders.append(find_holder(self.memory.read, gil))
                except ReadError as error:
                    self.error, self.failed = error.to_keep(), gil
                    self.holders.append(None)
            in_lists: set[int] | None = None
            if any(isinstance(ask, AskCondition) for ask in self.asks):
                in_lists = waiters(self.memory.read, self.gils)
            for ask in self.asks:
                if isinstance(ask, AskCondition):
                    self.answers.append(None if in_lists is None else ask.futex in in_lists)
                    continue
                try:
                    self.answers.append([self.memory.read(*place) for place in ask.places])
                except ReadError:
                    self.answers.append(None)
        except Gone:
            self.gone = True
