"""Marks each read of a process's files, so that who watches the reading thread can tell whether it is stuck.

A target can make whoever reads it wait for ever: see :mod:`threadwatch.reading.reader`, which does all
reading in a thread that it can give up. Only in the middle of a read can a thread be given up, because
there it has nothing of anybody else's in its hands. So each read is between :func:`enter` and :func:`leave`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Literal

Lock = Literal["exec", "memory"]
"""What a read may have to wait for: the end of an exec, or the process's memory."""

Mark = tuple[int, Lock]
"""One read: its number, and what it may wait for."""


class GivenUp(BaseException):
    """Raised in a thread that comes back from a read and has been given up: it is to touch nothing more.

    No Exception, so that nobody takes it for an error of what was read.
    """


class _Marks(threading.local):
    """Each thread's own: who watches one must not take another's read for its."""

    def __init__(self) -> None:
        self.current: list[Mark] = []


_numbers = count()
_marks = _Marks()


def begin() -> list[Mark]:
    """From now on, this thread's reads are those of a new attempt; where they are marked."""
    _marks.current = []
    return _marks.current


def enter(lock: Lock = "exec") -> list[Mark]:
    """A read begins; what it gives is for :func:`leave`."""
    marks = _marks.current
    marks.append((next(_numbers), lock))
    return marks


def leave(marks: list[Mark]) -> None:
    """The read is over, however it has ended. Raises :class:`GivenUp`."""
    try:
        marks.pop()
    except IndexError:
        raise GivenUp from None


@contextmanager
def reading() -> Iterator[None]:
    """What is read inside is marked. On the hot paths :func:`enter` and :func:`leave` are cheaper."""
    marks = enter()
    try:
        yield
    finally:
        leave(marks)


def take(marks: list[Mark]) -> Mark | None:
    """The read that goes on in that thread, which is given up by that; None: none does.

    (To take it is atomic: either the thread does, or we do.)
    """
    try:
        return marks.pop()
    except IndexError:
        return None
