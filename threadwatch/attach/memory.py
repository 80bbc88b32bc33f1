"""Writes to the memory of a process, and lists what is mapped there.

The memory is that of the program that ran when it was opened: after exec there is nothing to read or write
any more.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from threadwatch.errors import Gone, ReadError
from threadwatch.procfs import MemoryFile
from threadwatch.procfs.handles import failure

_LINE = re.compile(
    rb"^([0-9a-f]{1,16})-([0-9a-f]{1,16}) (rw)[-x](p) [0-9a-f]+ \S+ [0-9]+ *([^\n]*)$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Region:
    """Memory that the process itself can read and write, and shares with no other."""

    start: int
    end: int
    path: bytes
    """The file that it began as; empty: none."""


def parse_writable(maps: bytes) -> tuple[Region, ...]:
    """Parse the private, writable mappings of ``maps`` (proc_pid_maps(5)). Any bytes give a list."""
    found = (
        Region(int(line[1], 16), int(line[2], 16), line[5].strip()) for line in _LINE.finditer(maps)
    )
    return tuple(region for region in found if region.start < region.end)


class Memory(MemoryFile):
    """A process's memory, open for reading and writing."""

    __slots__ = ()

    @classmethod
    def open(cls, directory: int) -> Memory:
        """Open the memory of the process whose directory in ``/proc`` this is.

        :raises Gone: the process has ended.
        :raises Denied: the kernel refuses.
        """
        try:
            return cls(os.open("mem", os.O_RDWR | os.O_CLOEXEC, dir_fd=directory))
        except OSError as error:
            raise failure(error, "mem") from None

    def write(self, address: int, data: bytes) -> None:
        """Put the bytes there. The caller has made sure that the process itself could.

        :raises Gone: the program has ended.
        :raises ReadError: not all could be written.
        """
        try:
            written = os.pwrite(self._fd, data, address)
        except OSError as error:
            raise failure(error, "mem") from None
        if not written:
            raise Gone("mem: the program has ended")
        if written < len(data):
            raise ReadError("mem", "eio", f"only {written} of {len(data)} bytes could be written")
