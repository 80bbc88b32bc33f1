"""Reads processes in ``/proc``: the only module that opens their files, with :mod:`threadwatch.procfs.memfd`.

It returns bytes, no values.

Rules:

* **A process is a directory, not a number.** :class:`ProcessDir` keeps ``/proc/PID`` open (O_PATH)
and opens everything relative to it. The kernel ties that directory to one process: after its end,
every read raises :class:`Gone`, even if another process has the PID.
* **Every errno becomes an error of ours in one function**,
:func:`~threadwatch.procfs.handles.failure`: ended is :class:`Gone`, refused is :class:`Denied`, the
rest a :class:`ReadError` with the errno's name.
* **Small files are read whole**, until the end, because their sizes are unknown before (stat says
0).
* **A target's files are never opened**, with two exceptions. The first is its thread table, after
the kernel has shown that it is a memfd: see :meth:`ProcessDir.open_table`. The second is its
program, which is a plain file, or could not have been run. Nothing is ever mapped.
* **Every read for which a process could make us wait is marked** (:mod:`threadwatch.procfs.marks`).
These reads are not: the directory itself, the lists of ``task`` and ``fd``, the existence of a
thread, and CPU clocks.
"""

from __future__ import annotations

import os
import stat
from itertools import islice
from typing import Literal

from threadwatch.errors import Gone
from threadwatch.procfs.handles import (
    MAX_FILE,
    PAGE,
    Handle,
    MemoryFile,
    ProgramFile,
    TableFile,
    TaskFile,
    failure,
    translated,
    whole,
)
from threadwatch.procfs.marks import enter, leave, reading
from threadwatch.procfs.memfd import open_memfd
from threadwatch.publisher import layout as table

TABLE_LINK = f"/memfd:{table.NAME} (deleted)"
"""The kernel's text for a thread table in ``/proc/PID/fd``."""

MAX_CMDLINE = 1 << 17
"""Bytes of a command line that are read: the limit of a single argument (execve(2))."""

_OF_MEMORY = frozenset({"cmdline", "environ", "maps"})
"""Files that are in the process's memory, or list it."""

_READ = os.O_RDONLY | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class ProcessDir(Handle):
    """One process, by its directory in ``/proc``, which is kept open.

    Every method raises :class:`Gone` when the process has ended and :class:`Denied` when the kernel
    refuses; ``source`` is the short name that errors then carry.
    """

    __slots__ = ("pid",)

    def __init__(self, pid: int, fd: int) -> None:
        self.pid = pid
        self._fd = fd

    def read(self, name: str, source: str, *, most: int = MAX_FILE + 1) -> bytes:
        """Return the file ``name``, whole or its first ``most`` bytes, a page at least.

        :raises Malformed: the file is longer than :data:`MAX_FILE`.
        """
        marks = enter("memory" if name in _OF_MEMORY else "exec")
        try:
            fd = os.open(name, _READ, dir_fd=self._fd)
            try:
                # The kernel makes these files in one piece: a read that is not full has the whole
                # file.
                data = os.read(fd, PAGE)
                return data if len(data) < PAGE else whole(fd, source, data, most=most)
            finally:
                os.close(fd)
        except OSError as error:
            raise failure(error, source) from None
        finally:
            leave(marks)

    def read_cmdline(self) -> bytes:
        """Return the command line or its first :data:`MAX_CMDLINE` bytes: some list thousands of files."""
        return self.read("cmdline", "cmdline", most=MAX_CMDLINE)

    def read_task(self, tid: int, name: str) -> bytes:
        """Return the file ``name`` of one thread, whole; ``name`` is the source as well."""
        marks = enter()
        try:
            fd = os.open(f"task/{tid}/{name}", _READ, dir_fd=self._fd)
            try:
                data = os.read(fd, PAGE)
                return data if len(data) < PAGE else whole(fd, name, data)
            finally:
                os.close(fd)
        except OSError as error:
            raise failure(error, name) from None
        finally:
            leave(marks)

    def open_task_file(self, tid: int, name: str) -> TaskFile:
        """Return the file ``name`` of one thread, kept open to be read again and again.

        It is twice as fast to read as :meth:`read_task`, but takes 4 KiB of the kernel's memory:
        for threads that run.
        """
        try:
            return TaskFile(os.open(f"task/{tid}/{name}", _READ, dir_fd=self._fd), name)
        except OSError as error:
            raise failure(error, name) from None

    def task_fd_link(self, tid: int, fd: int) -> str:
        """Return :meth:`fd_link` of one thread: each can have files of its own, and outlive the leader."""
        marks = enter()
        try:
            link = os.readlink(b"task/%d/fd/%d" % (tid, fd), dir_fd=self._fd)
        except OSError as error:
            raise failure(error, "fd") from None
        finally:
            leave(marks)
        return link.decode("utf-8", "replace")

    def has_task(self, tid: int) -> bool:
        """Return whether one of its threads has this TID."""
        try:
            os.stat(b"task/%d" % tid, dir_fd=self._fd)
        except OSError:
            return False
        return True

    def open_memory(self) -> MemoryFile:
        """Open its memory, which may make a reader wait for ever: see :mod:`threadwatch.reading.reader`."""
        marks = enter()
        try:
            return MemoryFile(os.open("mem", _READ, dir_fd=self._fd))
        except OSError as error:
            raise failure(error, "mem") from None
        finally:
            leave(marks)

    def tids(self) -> list[int]:
        """Return the TIDs of the process's threads."""
        with translated("task"):
            fd = os.open("task", _LIST, dir_fd=self._fd)
            try:
                return [int(name) for name in os.listdir(fd) if name.isdecimal()]
            finally:
                os.close(fd)

    def thread_count(self) -> int:
        """Return the number of the process's threads, at a cost that does not depend on that number.

        The kernel reports it as the number of links of ``task`` (fs/proc/base.c,
        proc_task_getattr()).
        """
        try:
            return os.stat("task", dir_fd=self._fd).st_nlink - 2
        except OSError as error:
            raise failure(error, "task") from None

    def owner_uid(self) -> int:
        """Return the effective uid."""
        with translated("owner"):
            uid = os.fstat(self._fd).st_uid
            # For a process that has ended the kernel reports 0 without an error: check that it is
            # alive.
            os.stat("stat", dir_fd=self._fd)
            return uid

    def files_owner(self) -> int | None:
        """Return the owner of its private files here (root if it is not dumpable); None if unknown."""
        try:
            return os.stat("fd", dir_fd=self._fd).st_uid
        except OSError:
            return None

    def exe(self) -> str | None:
        """Return the executable's path, with `` (deleted)`` behind it if the file was replaced.

        None for a process without an executable: a kernel thread, a zombie.
        """
        with translated("exe"), reading():
            try:
                return os.readlink(b"exe", dir_fd=self._fd).decode("utf-8", "replace")
            except FileNotFoundError:
                os.stat("stat", dir_fd=self._fd)  # or has it ended?
                return None

    def namespace(self, kind: str) -> str:
        """Return the process's namespace of that kind (namespaces(7)): ``user:[4026531837]``.

        Two processes in the same namespace have the same text, as long as the namespace exists.
        """
        with translated("ns"), reading():
            return os.readlink(f"ns/{kind}", dir_fd=self._fd)

    def open_program(self) -> ProgramFile:
        """Return the file of its program, as it was when that was started, even if the path has changed."""
        marks = enter("memory")
        try:
            fd = os.open("exe", _READ | os.O_NONBLOCK, dir_fd=self._fd)
            found = os.fstat(fd)
        except OSError as error:
            raise failure(error, "exe") from None
        finally:
            leave(marks)
        return ProgramFile(fd, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))

    def read_maps(self, name: Literal["maps", "smaps"], most: int) -> bytes:
        """Return the list of its mappings, from the lowest address on, cut to ``most`` bytes."""
        marks = enter("memory")
        try:
            fd = os.open(name, _READ, dir_fd=self._fd)
            try:
                chunks, left = [], most
                while left > 0 and (chunk := os.read(fd, min(PAGE, left))):
                    chunks.append(chunk)
                    left -= len(chunk)
            finally:
                os.close(fd)
        except OSError as error:
            raise failure(error, name) from None
        finally:
            leave(marks)
        return b"".join(chunks)

    def fds(self, limit: int | None = None, *, first: int = 0) -> list[int]:
        """Return the numbers of open file descriptors from ``first`` on, in order; at most ``limit``."""
        with translated("fd"):
            fd = os.open("fd", _LIST, dir_fd=self._fd)
            try:
                # A descriptor's place in the directory is its number, behind . and ..
                # (proc_readfd_common()).
                os.lseek(fd, first and first + 2, os.SEEK_SET)
                with os.scandir(fd) as entries:
                    return [int(entry.name) for entry in islice(entries, limit)]
            finally:
                os.close(fd)

    def fd_link(self, fd: int) -> str:
        """Return the kernel's text for a file descriptor. The owner of a file can choose the text."""
        marks = enter()
        try:
            return os.readlink(b"fd/%d" % fd, dir_fd=self._fd).decode("utf-8", "replace")
        except OSError as error:
            raise failure(error, "fd") from None
        finally:
            leave(marks)

    def maps_table(self) -> bool:
        """Return whether a mapping with the name of a thread table exists, or may exist.

        It may exist if the list of mappings is longer than what is read.
        """
        data = self.read_maps("maps", MAX_FILE)
        return TABLE_LINK.encode() in data or len(data) >= MAX_FILE

    def is_open_for_writing(self, fd: int) -> bool:
        """Return whether the process may write to its descriptor (proc_pid_fd(5): the link's permissions)."""
        with translated("fd"), reading():
            return bool(os.lstat(b"fd/%d" % fd, dir_fd=self._fd).st_mode & stat.S_IWUSR)

    def open_table(self, fd: int) -> TableFile:
        """Return the target's memfd ``fd``, open for reading. Never blocks, whatever ``fd`` is.

        See :mod:`threadwatch.procfs.memfd`.

        :raises Gone: also if ``fd`` has been closed or replaced meanwhile.
        :raises Malformed: it only looks like a table.
        """
        if self.fd_link(fd) != TABLE_LINK:
            raise Gone("table: the file descriptor is something else by now")
        return open_memfd(self._fd, fd)
