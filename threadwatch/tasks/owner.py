"""Tells whether a thread runs a loop, by what the loop itself says of its thread.

A walk over the frames of a thread can lead into those of another one, because frames end meanwhile, and
others begin in their memory. So the loop that a walk has found need not be the thread's own.
"""

from __future__ import annotations

from threadwatch.names.memory.attributes import Attributes
from threadwatch.names.memory.snapshot import Memory, Snapshot
from threadwatch.names.memory.walk import Python, read_int, thread_states
from threadwatch.tasks.layout import malformed

OF_ASYNCIO = b"_thread_id"
"""The attribute of asyncio's loops: the ident of the thread that runs it, None while none does."""
OF_GEVENT = b"thread_ident"
"""That of gevent's hubs."""
_MOST_PAGES = 4096


class Owners:
    """Tells which threads of one interpreter run loops of one kind."""

    def __init__(self, python: Python, interpreter: int, attribute: bytes) -> None:
        """``attribute``: has the ident of its thread in each loop."""
        self._python = python
        self._interpreter = interpreter
        self._attribute = attribute

    def prove(self, memory: Memory, loop: int, ident: int) -> None:
        """See that a loop is run by the thread with that ident.

        Where gevent has replaced ``threading.get_ident``, asyncio's loops have the ident of a greenlet. That
        says nothing of threads.

        :raises Gone: the program has ended.
        :raises ReadError: it is run by another thread, or does not say.
        """
        python, name = self._python, self._attribute
        snapshot = Snapshot(memory, _MOST_PAGES)
        place = Attributes(snapshot, python, frozenset({name})).places(snapshot, loop)[name]
        said = read_int(snapshot, python, snapshot.word(place.at))
        if said != ident and said in thread_states(snapshot, python, self._interpreter):
            raise malformed("a loop is run by another thread")
