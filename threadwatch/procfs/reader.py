"""Reading processes in ``/proc``: the only module that opens their files. Bytes come out, no values.

Rules:

* **A process is a directory, not a number.** :class:`ProcessDir` keeps ``/proc/PID`` open (O_PATH)
  and opens everything relative to it. The kernel ties that directory to the very process: once it
  has ended, every read raises :class:`Gone`, even if its PID has been given to another.
* **Every errno becomes an error of ours in one function**,
  :func:`~threadwatch.procfs.handles.failure`: ended is :class:`Gone`, refused is :class:`Denied`,
  the rest a :class:`ReadError` with the errno's name.
* **Small files are read whole.** Their sizes are unknown before (stat says 0), so until the end.
* **A target's files are never opened**, but for its thread table, and that one only after the kernel
  has shown that it is a memfd: see :meth:`ProcessDir.open_table`; and its program, which is a plain file, or
  could not have been run. Nothing is ever mapped.
* **Whatever a process could keep us waiting for is marked** (:mod:`threadwatch.procfs.marks`). Not: the
  directory itself, the lists of ``task`` and ``fd``, whether a thread is there, and CPU clocks.
"""

from __future__ import annotations

import functools
import os
import stat
from contextlib import suppress
from itertools import islice
from typing import Literal

from threadwatch.errors import Gone, Malformed
from threadwatch.procfs.fdinfo import parse_fdinfo
from threadwatch.procfs.handles import (
    MAX_FILE,
    OWN,
    PAGE,
    Handle,
    MemoryFile,
    ProgramFile,
    TableFile,
    TaskFile,
    close,
    failure,
    translated,
    whole,
)
from threadwatch.procfs.marks import enter, leave, reading
from threadwatch.publisher import layout as table

TABLE_LINK = f"/memfd:{table.NAME} (deleted)"
"""What the kernel shows in ``/proc/PID/fd`` for a thread table."""

MAX_TABLES = 64
"""Thread tables that are looked at in one process: one for each subinterpreter."""

MAX_CMDLINE = 1 << 17
"""Bytes of a command line that are read: as many as its longest single argument can have (execve(2))."""

_OF_MEMORY = frozenset({"cmdline", "environ", "maps"})
"""Files that are in the process's memory, or that list it."""

_READ = os.O_RDONLY | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PATH = os.O_PATH | os.O_CLOEXEC
# O_NONBLOCK: a target that holds a lease on its memfd would make open() wait for it
_TABLE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class ProcessDir(Handle):
    """One process, by its directory in ``/proc`` that is kept open.

    Every method raises :class:`Gone` when the process has ended and :class:`Denied` when the kernel
    refuses; ``source`` is the short name that errors then carry.
    """

    __slots__ = ("pid",)

    def __init__(self, pid: int, fd: int) -> None:
        self.pid = pid
        self._fd = fd

    def read(self, name: str, source: str, *, most: int = MAX_FILE + 1) -> bytes:
        """The file ``name``, whole or its first ``most`` bytes, a page at least.

        :raises Malformed: it is longer than :data:`MAX_FILE`.
        """
        marks = enter("memory" if name in _OF_MEMORY else "exec")
        try:
            fd = os.open(name, _READ, dir_fd=self._fd)
            try:
                # the kernel makes these files in one piece: a read that is not full has it all
                data = os.read(fd, PAGE)
                return data if len(data) < PAGE else whole(fd, source, data, most=most)
            finally:
                os.close(fd)
        except OSError as error:
            raise failure(error, source) from None
        finally:
            leave(marks)

    def read_cmdline(self) -> bytes:
        """The command line, or the first :data:`MAX_CMDLINE` bytes of it: some list thousands of files."""
        return self.read("cmdline", "cmdline", most=MAX_CMDLINE)

    def read_task(self, tid: int, name: str) -> bytes:
        """The file ``name`` of one thread, whole; ``name`` is the source as well."""
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
        """The file ``name`` of one thread, kept open to be read again and again.

        Twice as fast to read as :meth:`read_task`, but costs the kernel 4 KiB: for threads that run.
        """
        try:
            return TaskFile(os.open(f"task/{tid}/{name}", _READ, dir_fd=self._fd), name)
        except OSError as error:
            raise failure(error, name) from None

    def task_fd_link(self, tid: int, fd: int) -> str:
        """As :meth:`fd_link`, of one thread: they can have files of their own, and outlive the leader."""
        marks = enter()
        try:
            link = os.readlink(b"task/%d/fd/%d" % (tid, fd), dir_fd=self._fd)
        except OSError as error:
            raise failure(error, "fd") from None
        finally:
            leave(marks)
        return link.decode("utf-8", "replace")

    def has_task(self, tid: int) -> bool:
        """Whether one of its threads has this TID."""
        try:
            os.stat(b"task/%d" % tid, dir_fd=self._fd)
        except OSError:
            return False
        return True

    def open_memory(self) -> MemoryFile:
        """Its memory, to be read by :mod:`threadwatch.waits.gil_holder` only: a read may block for ever."""
        marks = enter()
        try:
            return MemoryFile(os.open("mem", _READ, dir_fd=self._fd))
        except OSError as error:
            raise failure(error, "mem") from None
        finally:
            leave(marks)

    def tids(self) -> list[int]:
        """The TIDs of the process's threads."""
        with translated("task"):
            fd = os.open("task", _LIST, dir_fd=self._fd)
            try:
                return [int(name) for name in os.listdir(fd) if name.isdecimal()]
            finally:
                os.close(fd)

    def thread_count(self) -> int:
        """How many threads the process has, at a cost that does not depend on it.

        The kernel gives it as the number of links of ``task`` (fs/proc/base.c, proc_task_getattr()).
        """
        try:
            return os.stat("task", dir_fd=self._fd).st_nlink - 2
        except OSError as error:
            raise failure(error, "task") from None

    def owner_uid(self) -> int:
        """The effective uid."""
        with translated("owner"):
            uid = os.fstat(self._fd).st_uid
            # of a process that has ended, the kernel says 0 without an error: see that it lives
            os.stat("stat", dir_fd=self._fd)
            return uid

    def files_owner(self) -> int | None:
        """Whose its private files here are: root's, if it is not dumpable; None if it cannot be told."""
        try:
            return os.stat("fd", dir_fd=self._fd).st_uid
        except OSError:
            return None

    def exe(self) -> str | None:
        """The executable's path, with `` (deleted)`` behind it if it was replaced.

        None for a process without one: a kernel thread, a zombie.
        """
        with translated("exe"), reading():
            try:
                return os.readlink(b"exe", dir_fd=self._fd).decode("utf-8", "replace")
            except FileNotFoundError:
                os.stat("stat", dir_fd=self._fd)  # has it ended, then?
                return None

    def namespace(self, kind: str) -> str:
        """Which namespace of that kind (namespaces(7)) it is in: ``user:[4026531837]``.

        The same text for the same one, as long as that exists.
        """
        with translated("ns"), reading():
            return os.readlink(f"ns/{kind}", dir_fd=self._fd)

    def open_program(self) -> ProgramFile:
        """The file of its program, as it was when that was started, whatever has become of the path."""
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
        """What is mapped in its memory, from the lowest address on, as far as it fits into so many bytes."""
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
        """The numbers of the open file descriptors from ``first`` on, in order; at most ``limit`` of them."""
        with translated("fd"):
            fd = os.open("fd", _LIST, dir_fd=self._fd)
            try:
                # a descriptor's place in the directory is its number, behind . and .. (proc_readfd_common())
                os.lseek(fd, first and first + 2, os.SEEK_SET)
                with os.scandir(fd) as entries:
                    return [int(entry.name) for entry in islice(entries, limit)]
            finally:
                os.close(fd)

    def fd_link(self, fd: int) -> str:
        """What the kernel says that a file descriptor is. The owner of a file can choose the text."""
        marks = enter()
        try:
            return os.readlink(b"fd/%d" % fd, dir_fd=self._fd).decode("utf-8", "replace")
        except OSError as error:
            raise failure(error, "fd") from None
        finally:
            leave(marks)

    def maps_table(self) -> bool:
        """Whether something called like a thread table is mapped into its memory, or may be.

        It may be where there is more mapped than is read.
        """
        data = self.read_maps("maps", MAX_FILE)
        return TABLE_LINK.encode() in data or len(data) >= MAX_FILE

    def is_open_for_writing(self, fd: int) -> bool:
        """Whether the process may write to this file of its own (proc_pid_fd(5): the link's permissions)."""
        with translated("fd"), reading():
            return bool(os.lstat(b"fd/%d" % fd, dir_fd=self._fd).st_mode & stat.S_IWUSR)

    def open_table(self, fd: int) -> TableFile:
        """The target's memfd ``fd``, to be read. Never blocks, whatever the target has there.

        The name proves nothing: any file can be called like a memfd in some mount namespace, and to
        open a FIFO, a device or a file on the target's own FUSE mount could block, or do things. So
        the fd is first opened as a mere place (O_PATH: no file system is asked), and its mount
        compared with that of a memfd of ours. All memfds live on one mount that only the kernel
        uses; what is there is a memfd, and can be opened.

        :raises Gone: also if ``fd`` has been closed or is something else by now.
        :raises Malformed: it only looks like a table.
        """
        if self.fd_link(fd) != TABLE_LINK:
            raise Gone("table: the file descriptor is something else by now")
        with translated("table"):
            place = -1
            try:
                with reading():
                    place = os.open(f"fd/{fd}", _PATH, dir_fd=self._fd)
                if _mount(place) != _memfd_mount():
                    raise Malformed("table", "is called like a memfd and is none")
                found = os.fstat(place)
                if not stat.S_ISREG(found.st_mode) or found.st_nlink:
                    raise Malformed("table", "is not a memfd")
                handle = os.open(f"/proc/self/fd/{place}", _TABLE)
            finally:
                close(place)
        return TableFile(handle, owner_uid=found.st_uid, inode=found.st_ino)


def find_tables(process: ProcessDir) -> list[int]:
    """The process's file descriptors that are called like thread tables: at most :data:`MAX_TABLES`."""
    return find_some_tables(process, 0, None)[0]


def find_some_tables(process: ProcessDir, first: int, part: int | None) -> tuple[list[int], int]:
    """As :func:`find_tables`, of ``part`` descriptors from ``first`` on; and where to go on, 0 at the end."""
    found: list[int] = []
    fds = process.fds(part, first=first)
    for fd in fds:
        with suppress(Gone):  # closed since it was listed
            if process.fd_link(fd) == TABLE_LINK:
                found.append(fd)
                if len(found) == MAX_TABLES:
                    return found, 0
    return found, (fds[-1] + 1 if len(fds) == part else 0)


@functools.cache
def _memfd_mount() -> int:
    """The id of the mount that the kernel keeps all memfds on."""
    with translated(OWN):
        fd = os.memfd_create("threadwatch-mount", os.MFD_CLOEXEC)
        try:
            return _mount(fd)
        finally:
            os.close(fd)


def _mount(fd: int) -> int:
    """The id of the mount that a file of our own is on."""
    with translated(OWN):
        info = os.open(f"/proc/self/fdinfo/{fd}", _READ)
        try:
            return parse_fdinfo(whole(info, OWN)).mnt_id
        finally:
            os.close(info)
