"""Reads the states of a process's threads again and again: in one go, as long as no thread starts or ends."""

from __future__ import annotations

from typing import NamedTuple

from threadwatch.names.memory.snapshot import Memory, Place, Snapshot, word
from threadwatch.names.memory.walk import Python, thread_states

_MOST_PAGES = 4096
"""How many pages may be read to see all thread states."""


class State(NamedTuple):
    """A thread's state."""

    address: int
    ident: int
    native: int
    """The thread's TID, 0 where it is not told."""
    data: bytes
    """Its first bytes."""


class States:
    """The states of the threads of one interpreter."""

    def __init__(self, python: Python, interpreter: int, size: int) -> None:
        """``size``: how many bytes of each are needed at least."""
        o = python.offsets
        self._python = python
        self._interpreter = interpreter
        self._size = max(size, *(at + 8 for at in (o.ident, o.next_state, o.state_interpreter)))
        self._known: list[State] = []
        self._places: tuple[Place, ...] = ()

    def read(self, memory: Memory) -> list[State]:
        """Return the states of all threads, the newest first.

        :raises Gone: the program has ended.
        :raises ReadError: they cannot be read, or are not what they should be.
        """
        if self._known:
            head, *contents = memory.read_each(self._places)
            if self._are_same(head, contents):
                return [
                    State(known.address, known.ident, known.native, data)
                    for known, data in zip(self._known, contents, strict=True)
                ]
        self._known = []
        snapshot = Snapshot(memory, _MOST_PAGES)
        found = thread_states(snapshot, self._python, self._interpreter)
        self._places = (
            (self._interpreter + self._python.offsets.states, 8),
            *((address, self._size) for _, address in found.values()),
        )
        self._known = [
            State(address, ident, native, snapshot.read(address, self._size))
            for ident, (native, address) in found.items()
        ]
        return self._known

    def _are_same(self, head: bytes, contents: list[bytes]) -> bool:
        """Return whether what has been read are the states of the known threads, and there are no others."""
        o = self._python.offsets
        following = head
        for known, data in zip(self._known, contents, strict=True):
            if (
                not data
                or following != known.address.to_bytes(8, "little")
                or word(data, o.ident) != known.ident
                or word(data, o.state_interpreter) != self._interpreter
            ):
                return False
            following = data[o.next_state : o.next_state + 8]
        return following == bytes(8)
