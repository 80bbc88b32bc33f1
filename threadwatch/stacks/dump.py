"""Reads what ``py-spy dump --json`` prints: the Python stack of each thread of one process."""

from __future__ import annotations

import json
from dataclasses import dataclass

from threadwatch.errors import Malformed

SOURCE = "py-spy"
_MOST_FRAMES = 1000
"""Of one thread: CPython's own limit of recursion."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A call that has not returned."""

    function: str
    """The qualified name from CPython 3.11 on."""
    file: str
    line: int
    """0: not known."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The Python stack of one thread."""

    tid: int | None
    """The kernel's, where py-spy can tell it."""
    name: str | None
    """What ``threading`` calls it."""
    holds_gil: bool
    frames: tuple[Frame, ...]
    """The innermost first."""


def parse_dump(data: bytes) -> tuple[Stack, ...]:
    """Return the stacks; :class:`Malformed` if the bytes are not py-spy's."""
    try:
        document = json.loads(data)
        return tuple(
            Stack(
                tid=_number(thread["os_thread_id"]),
                name=None if thread["thread_name"] is None else str(thread["thread_name"]),
                holds_gil=thread["owns_gil"] is True,
                frames=tuple(
                    Frame(str(each["name"]), str(each["filename"]), _number(each["line"]) or 0)
                    for each in thread["frames"][:_MOST_FRAMES]
                ),
            )
            for thread in document
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Malformed(SOURCE, f"{type(error).__name__}: {error}") from None


def _number(value: object) -> int | None:
    """Return a number that JSON had, or nothing."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
