"""Bytes of a target's memory, and a look at many places of it that costs few reads."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Protocol

from threadwatch.errors import Malformed

SOURCE = "memory"
"""The source of errors with what a process has in its memory."""
PAGE = 4096
"""Memory is mapped in whole pages of this size, or in larger ones that consist of such."""
Place = tuple[int, int]
"""An address, and a number of bytes from there."""

_WORD = Struct("<Q")
_HALF = Struct("<I")


class Memory(Protocol):
    """A target's memory: :class:`threadwatch.procfs.MemoryFile`."""

    def read(self, address: int, size: int) -> bytes:
        """Return the bytes from there. Raises Gone or ReadError."""

    def read_each(self, places: Sequence[Place]) -> list[bytes]:
        """Return the bytes of each place, none where they cannot be read. Raises Gone."""


class Snapshot:
    """A process's memory as it was when each page of it was first asked for.

    What is found in it can be torn, because the process runs on: it has to be read again to be believed.
    Where it is read page by page, a walk over hundreds of small objects costs few reads.
    """

    __slots__ = ("_left", "_memory", "_pages")

    def __init__(self, memory: Memory, most_pages: int) -> None:
        """``most_pages``: how many may be read, so that no process makes a walk dear."""
        self._memory = memory
        self._left = most_pages
        self._pages: dict[int, bytes] = {}

    def read(self, address: int, size: int) -> bytes:
        """Return the bytes from there.

        :raises Gone: the program has ended.
        :raises ReadError: fewer bytes or none are mapped there.
        :raises Malformed: more has been asked for than any honest process needs.
        """
        number, start = divmod(address, PAGE)
        if start + size <= PAGE:
            return self._page(number)[start : start + size]
        if size > self._left * PAGE:
            raise Malformed(SOURCE, f"{size} bytes at {address:#x} are too many")
        last = (address + size - 1) // PAGE
        data = b"".join([self._page(n) for n in range(number, last + 1)])
        return data[start : start + size]

    def word(self, address: int) -> int:
        """Return the 8 bytes there as a number. Raises as :meth:`read`."""
        return int(_WORD.unpack(self.read(address, 8))[0])

    def words(self, address: int, count: int) -> tuple[int, ...]:
        """Return this many words from there. Raises as :meth:`read`."""
        return tuple(word for (word,) in _WORD.iter_unpack(self.read(address, 8 * count)))

    def string(self, address: int, most: int) -> bytes:
        """Return the bytes until a zero, or the first ``most``. Raises as :meth:`read`."""
        data = self.read(address, min(most, PAGE - address % PAGE))
        if b"\0" not in data and len(data) < most:
            data += self.read(address + len(data), most - len(data))
        return data.split(b"\0", 1)[0]

    def _page(self, number: int) -> bytes:
        page = self._pages.get(number)
        if page is None:
            if self._left <= 0:
                raise Malformed(SOURCE, "what is looked for is spread over too many pages")
            self._left -= 1
            page = self._pages[number] = self._memory.read(number * PAGE, PAGE)
        return page


def word(data: bytes, at: int) -> int:
    """Return the 8 bytes at an offset as a number; :class:`Malformed` if there are fewer."""
    if not 0 <= at <= len(data) - 8:
        raise Malformed(SOURCE, f"no word is at {at} of {len(data)} bytes")
    return int(_WORD.unpack_from(data, at)[0])


def half(data: bytes, at: int) -> int:
    """Return the 4 bytes at an offset as a number; :class:`Malformed` if there are fewer."""
    if not 0 <= at <= len(data) - 4:
        raise Malformed(SOURCE, f"no number is at {at} of {len(data)} bytes")
    return int(_HALF.unpack_from(data, at)[0])
