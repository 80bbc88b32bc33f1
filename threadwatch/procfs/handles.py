"""Files that the reader keeps open, and what the kernel's errnos mean.

Nothing here opens anything: :mod:`threadwatch.procfs.reader` does.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from threadwatch.errors import Denied, Gone, Malformed, ReadError, ThreadwatchError
from threadwatch.procfs.marks import enter, leave
from threadwatch.publisher import layout as table

MAX_FILE = 1 << 20
"""No file is read further than this many bytes."""

PAGE = 4096
"""What is asked for in one read: more than all but a few files of ``/proc`` have."""

_SHORT = 255
"""What is asked for where little will come: to make room for more takes longer."""

_ADDRESSES = 1 << 63
"""As far as pread(2) goes; a program's own addresses end before."""

OWN = "self"
"""The source of errors with the daemon's own ``/proc/self``: there, nothing has ended."""


def failure(error: OSError, source: str) -> ThreadwatchError:
    """The error of ours for what the kernel answered when ``source`` was read."""
    number = error.errno or 0
    if number in (errno.ENOENT, errno.ESRCH) and source != OWN:
        return Gone(f"{source}: the process or thread has ended")
    if number == errno.EINVAL and source == "clock":  # how clock_gettime(2) says ESRCH
        return Gone("clock: the process has ended")
    if number in (errno.EACCES, errno.EPERM):
        return Denied(source)
    return ReadError(
        source, errno.errorcode.get(number, f"errno_{number}").lower(), error.strerror or ""
    )


@contextmanager
def translated(source: str) -> Iterator[None]:
    """Raises :func:`failure` for an OSError inside. On the hot paths a plain try is cheaper."""
    try:
        yield
    except OSError as error:
        raise failure(error, source) from None


class Handle:
    """What is kept open. Close it, or use it in ``with``."""

    __slots__ = ("_fd",)

    _fd: int

    def close(self) -> None:
        """Let go of it. May be called twice."""
        self._fd = close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TaskFile(Handle):
    """One file of one thread, kept open: tied to that thread, even if its TID is used again."""

    __slots__ = ("_source",)

    def __init__(self, fd: int, source: str) -> None:
        self._fd = fd
        self._source = source

    def read(self) -> bytes:
        """The file as it is now. Raises :class:`Gone` when the thread has ended."""
        marks = enter()
        try:
            data = os.pread(self._fd, PAGE, 0)
            if len(data) < PAGE:
                return data
            return whole(self._fd, self._source, data)
        except OSError as error:
            raise failure(error, self._source) from None
        finally:
            leave(marks)

    def fileno(self) -> int:
        """The file descriptor."""
        return self._fd


def read_again(fds: Iterable[int]) -> list[bytes | None]:
    """What short files (up to 255 bytes) are now, in their order; None for a thread that has ended.

    For ``schedstat``, which never keeps anybody waiting, and in :func:`read_calls`. As
    :meth:`TaskFile.read` by its :meth:`TaskFile.fileno`, where the cost of a call for each thread counts.
    """
    pread = os.pread
    contents: list[bytes | None] = []
    for fd in fds:
        try:
            contents.append(pread(fd, _SHORT, 0))
        except OSError:  # nothing but ESRCH comes from a file that has been opened
            contents.append(None)
    return contents


def read_calls(fds: Sequence[int]) -> list[bytes | None]:
    """As :func:`read_again`, of files ``syscall``."""
    marks = enter()
    try:
        return read_again(fds)
    finally:
        leave(marks)


class MemoryFile:
    """A target's memory, open for reading. Closed when the last reference to it goes.

    It is that of the program that ran when it was opened: exec ends it. Whoever reads it may be made to
    wait for ever by the target, which can have a file system of its own behind an address. (That is also
    why there is no close(): who still waits in a read must not find the descriptor used for another file.)
    """

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, address: int, size: int) -> bytes:
        """The bytes from there.

        :raises Gone: the program has ended.
        :raises ReadError: nothing is mapped there, or not so much.
        """
        if not 0 <= address < _ADDRESSES:
            raise ReadError("mem", "eio", f"no address is {address:#x}")
        marks = enter("memory")
        try:
            data = os.pread(self._fd, size, address)
        except OSError as error:
            raise failure(error, "mem") from None
        finally:
            leave(marks)
        if not data:
            raise Gone("mem: the program has ended")
        if len(data) < size:
            raise ReadError("mem", "eio", f"the mapping ends after {address + len(data):#x}")
        return data

    def __del__(self) -> None:
        self._fd = close(self._fd)


class ProgramFile(Handle):
    """The file of a process's program, open for reading. It can be on a file system that keeps us waiting."""

    __slots__ = ("identity",)

    def __init__(self, fd: int, identity: tuple[int, ...]) -> None:
        self._fd = fd
        self.identity = identity
        """The same as long as it is this file, and has not been changed."""

    def read(self, offset: int, size: int) -> bytes:
        """The bytes there, as far as there are any."""
        marks = enter("memory")
        try:
            return os.pread(self._fd, size, offset) if offset < _ADDRESSES else b""
        except OSError as error:
            raise failure(error, "exe") from None
        finally:
            leave(marks)


class TableFile(Handle):
    """A target's thread table, open for reading. What it holds is the target's to choose.

    It stays readable when the target has ended or has closed it. The target may write at any
    moment, and cut it short if it has not sealed it: what is missing is missing from the bytes.
    """

    __slots__ = ("inode", "owner_uid")

    def __init__(self, fd: int, *, owner_uid: int, inode: int) -> None:
        self._fd = fd
        self.owner_uid = owner_uid
        """Who made it; the effective uid of a target that does not play tricks."""
        self.inode = inode
        """Tells one memfd from another while both exist."""

    def read_header(self) -> bytes:
        """The bytes for :func:`~threadwatch.names.slots.parse_header`."""
        return self._read(table.HEADER_SIZE, 0)

    def read_slots(self, first: int, count: int) -> bytes:
        """Up to ``count`` slots, from number ``first``; none beyond the capacity."""
        count = min(count, table.CAPACITY - first)
        if first < 0 or count <= 0:
            return b""
        return self._read(count * table.SLOT_SIZE, table.HEADER_SIZE + first * table.SLOT_SIZE)

    def _read(self, size: int, offset: int) -> bytes:
        try:
            return os.pread(self._fd, size, offset)
        except OSError as error:
            raise failure(error, "table") from None


def whole(fd: int, source: str, data: bytes = b"", *, most: int = MAX_FILE + 1) -> bytes:
    """The file from its beginning, of which ``data`` has been read, to its end, or for ``most`` bytes.

    :raises Malformed: it goes on for more than :data:`MAX_FILE` bytes.
    """
    chunks = [data]
    size = len(data)
    while size < most and (chunk := os.pread(fd, min(PAGE, most - size), size)):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_FILE:
            raise Malformed(source, f"longer than {MAX_FILE} bytes")
    return b"".join(chunks)


def close(fd: int) -> int:
    """Close it if it is open; what it is then: no file descriptor, -1."""
    if fd >= 0:
        os.close(fd)
    return -1
