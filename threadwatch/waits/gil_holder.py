"""Reads targets' memory: who holds a GIL, and which descriptor a call to ``poll`` or ``select`` names.

Nothing of it is shown to anybody: it is compared with what the process's own threads are known by.

Where a target's table says that its GIL is, or what it gives to poll, can be any address. The kernel lets us
read there nothing but the target's own memory, so it can lie about itself, which it can do anyway, but about
nobody else. Addresses where there is nothing, the kernel's, and pages of a userfaultfd give an error at once.
But a page of a file that is mapped has to be fetched from its file system, and that can be the target's
own, and never answer: see :mod:`threadwatch.reading.reader`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from threadwatch.errors import Gone, ReadError
from threadwatch.names.slots import Gil
from threadwatch.procfs import MemoryFile
from threadwatch.waits.reasons import AskMemory

_TRIES = 3
"""How often to look until the holder is the same before and after."""

_GIL = struct.Struct("=8xQi4x")
"""``last_holder`` and ``locked`` of ``struct _gil_runtime_state`` (CPython, pycore_gil.h)."""
_NO_MORE = -1
"""What ``locked`` is of a GIL that has been destroyed with its interpreter (ceval_gil.c, destroy_gil())."""
_WORD = struct.Struct("=Q")


class Holder(NamedTuple):
    """By what the thread is known that holds a GIL; all 0: none does, or it has no name."""

    ident: int
    """``threading.get_ident()``; 0 unknown."""
    native: int
    """Its TID as the target sees it; 0 unknown."""


NOBODY = Holder(0, 0)


def find_holder(read: Callable[[int, int], bytes], gil: Gil) -> Holder | None:
    """Who holds the GIL at one moment between begin and end; None: that went too fast to see.

    ``read`` takes an address and a size. ``last_holder`` says who holds it only while it is locked; and whose
    thread state that is only if it is still the holder's after that has been read.

    :raises ReadError: what ``read`` raises; or it is no GIL.
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
            continue  # it was let go of and freed, memory and all
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
    """What is to be read of one process's memory in one round, and what was found."""

    __slots__ = ("answers", "asks", "error", "failed", "gils", "gone", "holders", "memory")

    def __init__(self, memory: MemoryFile, gils: Sequence[Gil], asks: Sequence[AskMemory]) -> None:
        self.memory = memory
        self.gils = gils
        self.asks = asks
        self.holders: list[Holder | None] = []
        """Of each GIL; None: unknown."""
        self.answers: list[list[bytes] | None] = []
        """To each question; None: it cannot be read."""
        self.error: ReadError | None = None
        """What went wrong with a GIL."""
        self.failed: Gil | None = None
        """That GIL."""
        self.gone = False
        """The program has ended whose memory it was."""

    def run(self) -> None:
        """Read all of it. Raises nothing."""
        try:
            for gil in self.gils:
                try:
                    self.holders.append(find_holder(self.memory.read, gil))
                except ReadError as error:
                    self.error, self.failed = error, gil
                    self.holders.append(None)
            for ask in self.asks:
                try:
                    self.answers.append([self.memory.read(*place) for place in ask.places])
                except ReadError:
                    self.answers.append(None)
        except Gone:
            self.gone = True
