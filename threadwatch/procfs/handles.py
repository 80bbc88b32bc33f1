"""Reads files that the reader keeps open, and translates the kernel's errnos.

This module opens nothing: :mod:`threadwatch.procfs.reader` does.
"""

from __future__ import annotations

import errno
import fcntl
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
"""Bytes asked for in one read: more than all but a few files of ``/proc`` have."""

_SHORT = 255
"""Bytes asked for where the file is short: a larger buffer takes longer to allocate."""

_AT_ONCE = 256
"""Places of a memory that are marked as one read (:mod:`threadwatch.procfs.marks`)."""

_ADDRESSES = 1 << 63
"""The range of pread(2); a program's own addresses end below it."""

OWN = "self"
"""The source of errors with the daemon's own ``/proc/self``: such a file is never gone."""


def failure(error: OSError, source: str) -> ThreadwatchError:
    """Return our error for the kernel's answer to reading ``source``."""
    number = error.errno or 0
    if number in (errno.ENOENT, errno.ESRCH) and source != OWN:
        return Gone(f"{source}: the process or thread has ended")
    if number == errno.EINVAL and source == "clock":  # clock_gettime(2) reports ESRCH in this way
        return Gone("clock: the process has ended")
    if number in (errno.EACCES, errno.EPERM):
        return Denied(source)
    return ReadError(
        source, errno.errorcode.get(number, f"errno_{number}").lower(), error.strerror or ""
    )


@contextmanager
def translated(source: str) -> Iterator[None]:
    """Raise :func:`failure` for an OSError inside. On the hot paths a plain try is cheaper."""
    try:
        yield
    except OSError as error:
        raise failure(error, source) from None


class Handle:
    """An open file or directory. Close it, or use it in ``with``."""

    __slots__ = ("_fd",)

    _fd: int

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._fd = close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TaskFile(Handle):
    """One file of one thread, kept open. It stays tied to that thread, even if the TID is used again."""

    __slots__ = ("_source",)

    def __init__(self, fd: int, source: str) -> None:
        self._fd = fd
        self._source = source

    def read(self) -> bytes:
        """Return the file's present content. Raises :class:`Gone` when the thread has ended."""
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
        """Return the file descriptor."""
        return self._fd


def read_again(fds: Iterable[int]) -> list[bytes | None]:
    """Return the content of short files (up to 255 bytes), in their order; None if the thread has ended.

    Use it for ``schedstat``, which never makes the reader wait, and in :func:`read_calls`. It does
    the same as :meth:`TaskFile.read`, with :meth:`TaskFile.fileno`, without the cost of a call for
    each thread.
    """
    pread = os.pread
    contents: list[bytes | None] = []
    for fd in fds:
        try:
            contents.append(pread(fd, _SHORT, 0))
        except OSError:  # an open file can only raise ESRCH
            contents.append(None)
    return contents


def read_calls(fds: Sequence[int]) -> list[bytes | None]:
    """Return the content of files ``syscall``, as :func:`read_again` does."""
    marks = enter()
    try:
        return read_again(fds)
    finally:
        leave(marks)


class MemoryFile:
    """A target's memory, open for reading. Closed when the last reference to it goes.

    It is the memory of the program that ran when it was opened: exec ends it. A target can make a
    read wait for ever, because it can have a file system of its own behind an address. (For that
    reason there is no close(): a thread that still waits in a read must not find the descriptor
    used for another file.)
    """

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, address: int, size: int) -> bytes:
        """Return the bytes from there.

        :raises Gone: the program has ended.
        :raises ReadError: fewer bytes or none are mapped there.
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
        if not data and size:
            raise Gone("mem: the program has ended")
        if len(data) < size:
            raise ReadError("mem", "eio", f"the mapping ends after {address + len(data):#x}")
        return data

    def read_each(self, places: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each place, an address and a size; none where fewer bytes can be read.

        It does the same as :meth:`read`, without the cost of a call for each place.

        :raises Gone: the program has ended.
        """
        contents: list[bytes] = []
        for start in range(0, len(places), _AT_ONCE):
            marks = enter("memory")
            try:
                _read_places(self._fd, places[start : start + _AT_ONCE], contents)
            finally:
                leave(marks)
        return contents

    def __del__(self) -> None:
        self._fd = close(self._fd)


def _read_places(fd: int, places: Sequence[tuple[int, int]], contents: list[bytes]) -> None:
    """Append the bytes of each place of a process's memory; none where they cannot be read."""
    pread = os.pread
    for address, size in places:
        try:
            data = pread(fd, size, address)
        except (OSError, OverflowError):  # nothing is mapped there, or it is no address
            data = b""
        else:
            if not data and size:
                raise Gone("mem: the program has ended")
        contents.append(data if len(data) == size else b"")


class ProgramFile(Handle):
    """The file of a process's program, open for reading. Its file system can make us wait."""

    __slots__ = ("identity",)

    def __init__(self, fd: int, identity: tuple[int, ...]) -> None:
        self._fd = fd
        self.identity = identity
        """Equal as long as it is the same, unchanged file."""

    def read(self, offset: int, size: int) -> bytes:
        """Return the bytes there, as many as there are."""
        marks = enter("memory")
        try:
            return os.pread(self._fd, size, offset) if offset < _ADDRESSES else b""
        except OSError as error:
            raise failure(error, "exe") from None
        finally:
            leave(marks)


class TableFile(Handle):
    """A target's thread table, open for reading. The target chooses its content.

    The table stays readable when the target has ended or has closed it. The target may write at any
    moment, and shorten the file unless it has sealed it: bytes beyond the end are missing from the
    result.
    """

    __slots__ = ("inode", "owner_uid")

    def __init__(self, fd: int, *, owner_uid: int, inode: int) -> None:
        self._fd = fd
        self.owner_uid = owner_uid
        """The uid of its maker: the effective uid of an honest target."""
        self.inode = inode
        """Distinguishes memfds that exist at the same time."""

    def read_header(self) -> bytes:
        """Return the bytes for :func:`~threadwatch.names.slots.parse_header`."""
        return self._read(table.HEADER_SIZE, 0)

    def read_slots(self, first: int, count: int) -> bytes:
        """Return up to ``count`` slots, from number ``first``; none beyond the capacity."""
        count = min(count, table.CAPACITY - first)
        if first < 0 or count <= 0:
            return b""
        return self._read(count * table.SLOT_SIZE, table.HEADER_SIZE + first * table.SLOT_SIZE)

    def is_locked(self) -> bool:
        """Return whether a process has it locked: a publisher locks a table that it hands over (flock(2)).

        If no process has, this call itself locks it, until it is closed.
        """
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError as error:
            raise failure(error, "table") from None
        return False

    def _read(self, size: int, offset: int) -> bytes:
        try:
            return os.pread(self._fd, size, offset)
        except OSError as error:
            raise failure(error, "table") from None


def whole(fd: int, source: str, data: bytes = b"", *, most: int = MAX_FILE + 1) -> bytes:
    """Return the file from ``data``, its beginning, to its end, or at most ``most`` bytes.

    :raises Malformed: the file is longer than :data:`MAX_FILE` bytes.
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
    """Close the descriptor if it is open; return -1, which stands for no descriptor."""
    if fd >= 0:
        os.close(fd)
    return -1
