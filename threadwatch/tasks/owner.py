"""Tells whether a thread runs a loop, by what the loop itself says of its thread.

A walk over the frames of a thread can lead into those of another one, because frames end meanwhile, and
others begin in their memory. So the loop that a walk has found need not be the thread's own.
"""

from __future__ import annotations

from threadwatch.names.memory.attributes import Attributes
from threadwatch.names.memory.snapshot import Memory, Snapshot
from threadwatch.names.memory.walk import Python, read_int
from threadwatch.tasks.layout import malformed

OF_ASYNCIO = b"_thread_id"
"""The attribute of asyncio's loops: the ident of the thread that runs it, None while none does."""
OF_GEVENT = b"thread_ident"
"""That of gevent's hubs."""
_MOST_PAGES = 64


def prove_owner(memory: Memory, python: Python, loop: int, attribute: bytes, ident: int) -> None:
    """See that a loop is run by the thread with that ident, by its attribute.

    :raises Gone: the program has ended.
    :raises ReadError: it is not, or does not say.
    """
    snapshot = Snapshot(memory, _MOST_PAGES)
    attributes = Attributes(snapshot, python, frozenset({attribute}))
    place = attributes.places(snapshot, loop)[attribute]
    if read_int(snapshot, python, snapshot.word(place.at)) != ident:
        raise malformed("a loop is run by another thread")
