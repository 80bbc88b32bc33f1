"""Tells how many callbacks are ready to run in a loop of asyncio: the length of its deque ``_ready``.

The loop makes that deque with itself, and no other later, so its place is looked up once for each loop, and
once a second whether it is still there. What has the loop is not in it any more. A loop that keeps them in
something else than a deque tells nothing.

CPython, Lib/asyncio/base_events.py, Modules/_collectionsmodule.c (dequeobject, a PyVarObject).
"""

from __future__ import annotations

from dataclasses import dataclass

from threadwatch.errors import Gone, ReadError
from threadwatch.names.memory.attributes import Attributes
from threadwatch.names.memory.snapshot import Memory, Place, Snapshot
from threadwatch.names.memory.walk import Python
from threadwatch.tasks.objects import REMEMBERED_NS, Objects, Readable, words

_NAME = b"_ready"
_MOST_PAGES = 64
_MOST = 1 << 40
"""No loop has more callbacks: they would not fit into memory."""


@dataclass(slots=True)
class ReadyQueue:
    """The deque of one loop."""

    loop: int
    """The loop's address."""
    address: int
    """That of the deque; 0: it has none."""
    places: tuple[Place, ...]
    """What stays the same as long as the loop has this deque."""
    contents: list[bytes]
    checked_ns: int


def length(memory: Readable, objects: Objects, ob_type: int, address: int, kind: str) -> int | None:
    """Return how many items a list or a deque has; None: it is not of that ``kind``.

    ``ob_type``: where objects have their type. Raises Gone or ReadError.
    """
    a_type, count = words(memory, address + ob_type, 2)
    return count if count < _MOST and objects.type(memory, a_type).name == kind else None


class Ready:
    """The callbacks that are ready, in the loops of one process."""

    def __init__(self, python: Python, objects: Objects) -> None:
        self._python = python
        self._objects = objects

    def count(
        self, memory: Memory, loop: int, known: ReadyQueue | None, now_ns: int
    ) -> tuple[int | None, ReadyQueue]:
        """Return how many callbacks are ready in the loop at an address; None: that is not known.

        ``known``: what the call before has returned besides, for that thread. Raises Gone.
        """
        if known is None or known.loop != loop or not self._is_valid(memory, known, now_ns):
            known = self._find(memory, loop, now_ns)
        if not known.address:
            return None, known
        try:
            ob_type = self._python.offsets.ob_type
            return length(memory, self._objects, ob_type, known.address, "deque"), known
        except ReadError:
            return None, known

    @staticmethod
    def _is_valid(memory: Memory, known: ReadyQueue, now_ns: int) -> bool:
        if 0 <= now_ns - known.checked_ns < REMEMBERED_NS:
            return True
        known.checked_ns = now_ns
        return bool(known.places) and memory.read_each(known.places) == known.contents

    def _find(self, memory: Memory, loop: int, now_ns: int) -> ReadyQueue:
        """Look up a loop's deque."""
        snapshot = Snapshot(memory, _MOST_PAGES)
        try:
            attributes = Attributes(snapshot, self._python, frozenset({_NAME}))
            found = attributes.places(snapshot, loop)[_NAME]
            places = (found.key_at, 8), (found.at, 8)
            contents = [snapshot.read(*place) for place in places]
            return ReadyQueue(loop, snapshot.word(found.at), places, contents, now_ns)
        except Gone:
            raise
        except ReadError:
            return ReadyQueue(loop, 0, (), [], now_ns)
