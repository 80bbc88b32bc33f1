"""Marks each read of a process's files, so that its caller can see whether the reading thread is stuck.

A target can make its reader wait for ever: see :mod:`threadwatch.reading.reader`, which does all
reading in a thread that it can give up. A thread can be given up only in the middle of a read,
because then it holds nothing that others use. So each read is between :func:`enter` and
:func:`leave`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Literal

Lock = Literal["exec", "memory"]
"""What a read may wait for: the end of an exec, or the process's memory."""

Mark = tuple[int, Lock]
"""One read: its number, and what it may wait for."""


class GivenUp(BaseException):
    """Raised in a thread that was given up, when it comes back from its read: it must touch nothing more.

    Derived from BaseException, so that no handler takes it for an error of the read.
    """


class _Marks(threading.local):
    """The marks of each thread: two reading threads must not share them."""

    def __init__(self) -> None:
        self.current: list[Mark] = []


_numbers = count()
_marks = _Marks()


def begin() -> list[Mark]:
    """Begin a new attempt of this thread, and return the list in which its reads are marked."""
    _marks.current = []
    return _marks.current


def enter(lock: Lock = "exec") -> list[Mark]:
    """Mark the beginning of a read; pass the result to :func:`leave`."""
    marks = _marks.current
    marks.append((next(_numbers), lock))
    return marks


def leave(marks: list[Mark]) -> None:
    """Mark the end of a read, however it has ended. Raises :class:`GivenUp`."""
    try:
        marks.pop()
    except IndexError:
        raise GivenUp from None


@contextmanager
def reading() -> Iterator[None]:
    """Mark the reads inside. On the hot paths :func:`enter` and :func:`leave` are cheaper."""
    marks = enter()
    try:
        yield
    finally:
        leave(marks)


def take(marks: list[Mark]) -> Mark | None:
    """Give up the thread in its present read, and return that read; None: it is in no read.

    (Taking the mark is atomic: either the thread takes it, or the caller does.)
    """
    try:
        return marks.pop()
    except IndexError:
        return None
