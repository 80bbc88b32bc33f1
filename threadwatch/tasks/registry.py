"""Finds all tasks of one process: where asyncio itself keeps those that are not done.

Up to 3.13 that is in sets: ``_all_tasks``, a WeakSet; from 3.12 on ``_scheduled_tasks``, a WeakSet, and
``_eager_tasks``. From 3.14 on it is in a linked list of each thread, and one of the threads that have ended
(CPython, Modules/_asynciomodule.c, Include/internal/pycore_llist.h).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from struct import Struct

from threadwatch.errors import ReadError
from threadwatch.names.memory.attributes import Attributes
from threadwatch.names.memory.snapshot import Memory, Snapshot, word
from threadwatch.names.memory.walk import Python, thread_states
from threadwatch.tasks.layout import SOURCE, Layout, malformed
from threadwatch.tasks.objects import Objects, Readable, words
from threadwatch.tasks.places import Places

_TRIES = 3
_DATA = b"data"
_MOST_CHANGES = 64
"""How often a list may be found to have changed under a walk."""
_ENTRY = Struct("<Qq")
_NODE = Struct("<QQ")
_SPARE = 64
"""Places in a set for each task: a set that was large once stays so for a while."""


class Registry:
    """The tasks of one process, by their addresses."""

    def __init__(self, python: Python, layout: Layout, objects: Objects, places: Places) -> None:
        self._python = python
        self._layout = layout
        self._objects = objects
        self._places = places

    def tasks(self, memory: Memory, snapshot: Snapshot, most: int) -> list[int]:
        """Return the addresses of all tasks, of which some may be done.

        ``snapshot``: one of that memory, which has just begun.

        :raises Gone: the program has ended.
        :raises ReadError: there are more than ``most``, or they are not where they should be.
        """
        if not self._layout.state_tasks:
            found: list[int] = []
            for a_set in self._places.task_sets:
                found += self._of_set(memory, snapshot, a_set, most)
            return found
        return list(self._listed(memory, snapshot, most))

    def _of_set(self, memory: Memory, snapshot: Snapshot, address: int, most: int) -> list[int]:
        """Return what is in a set, or in a WeakSet."""
        o, objects = self._layout, self._objects
        kind = objects.type(snapshot, objects.type_at(snapshot, address)).name
        if kind == "WeakSet":
            places = Attributes(snapshot, self._python, frozenset({_DATA})).places(
                snapshot, address
            )
            address = snapshot.word(places[_DATA].at)
        elif kind != "set":
            raise malformed("what should be a set is none")
        if not objects.is_builtin(snapshot, objects.type_at(snapshot, address), "set"):
            raise malformed("what should be a set is none")
        keys = keys_of_set(memory, o, address, most)
        if kind == "set":
            return keys
        return [
            word(snapshot.read(key, o.reference_object + 8), o.reference_object) for key in keys
        ]

    def _listed(self, memory: Memory, snapshot: Snapshot, most: int) -> Iterator[int]:
        """Walk the lists of all threads."""
        o, interpreter = self._layout, self._places.interpreter
        heads = [
            state + o.state_tasks
            for _, state in thread_states(snapshot, self._python, interpreter).values()
        ]
        ended = interpreter + o.interpreter_tasks
        with suppress(ReadError):  # nothing proves this offset if the list is empty
            if self._is_list(memory, ended):
                heads.append(ended)
        left = most
        for head in heads:
            for task in self._of_list(memory, snapshot, head, left):
                left -= 1
                yield task

    @staticmethod
    def _is_list(memory: Memory, head: int) -> bool:
        """Return whether a list begins there: its ends lead back to it."""
        for _ in range(_TRIES):
            first, last = words(memory, head, 2)
            if words(memory, first, 2)[1] == words(memory, last, 1)[0] == head:
                return True
        return False

    def _of_list(self, memory: Memory, snapshot: Snapshot, head: int, most: int) -> list[int]:
        """Return the tasks of one list, whose nodes have the addresses of the next and of the one before."""
        if not self._is_list(memory, head):
            raise malformed("the list of a thread's tasks is none")
        nodes, seen = [head], {head}
        following: int | None = None
        source: Readable
        changes = 0
        while True:
            try:
                node, source = following, snapshot
                if node is None:
                    node, source = words(memory, nodes[-1], 1)[0], memory
                if node == head:
                    return [one - self._layout.task_node for one in nodes[1:]]
                after, before = _NODE.unpack(source.read(node, _NODE.size))
                if before != nodes[-1] or node in seen:
                    raise malformed("a list of tasks has changed")
            except ReadError:
                # A task has come or gone since that was read. A neighbour that is still in the list says
                # where it goes on now.
                changes += 1
                if changes > _MOST_CHANGES:
                    raise
                if following is None and len(nodes) > 1:
                    seen.discard(nodes.pop())
                following = None
                continue
            nodes.append(node)
            seen.add(node)
            following = after
            if len(nodes) > most + 1:
                raise ReadError(SOURCE, "limit", f"there are more than {most} tasks")


def keys_of_set(memory: Memory, layout: Layout, address: int, most: int) -> list[int]:
    """Return the addresses of what is in a set.

    :raises Gone: the program has ended.
    :raises ReadError: there are more than ``most``, or the set changes faster than it can be read.
    """
    start = address + layout.set_used
    for _ in range(_TRIES):
        used, mask, table = words(memory, start, 3)
        if used > most:
            raise ReadError(SOURCE, "limit", f"there are {used} tasks, more than {most}")
        if mask & (mask + 1) or mask > _SPARE * max(most, 8):
            raise malformed(f"no set has {mask + 1} places")
        try:
            data = memory.read(table, (mask + 1) * _ENTRY.size)
        except ReadError:
            continue  # it has another by now
        if words(memory, start, 3)[2] == table:
            return [key for key, hash_ in _ENTRY.iter_unpack(data) if key and hash_ != -1]
    raise malformed("a set of tasks changes faster than it can be read")
