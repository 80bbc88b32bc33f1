"""Finds a process's tables among its file descriptors, and decides whether to believe them.

Rules:

* A table is believed only if it names the process itself, by its PID in the innermost PID namespace
and its start time, and if its maker may speak for the process (:mod:`.ownership`). A table that was
inherited or handed over names another process. A believed table stays believed; a table of the
wrong user is judged again with each look, because the process may become that user.
* A table of another process that is open for writing was inherited: this process is a fork of that
one, by C code that the publisher could not notice. It has Python in it, and its maker's group. (A
watching process, as we are, has tables open for reading.)
* A table that the process has handed over is judged by the same rules. It has to be locked as well,
because that is how its end is seen (:mod:`threadwatch.publisher.handover`).
* A table that cannot be read, or is a forgery, is an error that is counted, once. One that merely
names another process is not: forks and watching processes hold such tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from threadwatch.errors import Gone, ReadError
from threadwatch.names.ownership import check_owner, clocks_ahead
from threadwatch.names.slots import TableHeader, parse_header
from threadwatch.procfs import ProcessDir, TableFile, find_some_tables

FILES = 4096
"""File descriptors of a process that are examined in one go."""


HANDED_OVER = -1
"""The descriptor's number of a table that the process has handed over: it may have closed its own."""


@dataclass(frozen=True, slots=True)
class FoundTable:
    """A table that is believed."""

    fd: int
    """The process's own descriptor of it, or :data:`HANDED_OVER`."""
    file: TableFile
    header: TableHeader
    ahead_ns: int
    """How far its maker's clock is ahead of ours."""


class TableFinder:
    """Finds the tables of one process."""

    def __init__(self, ns_pid: int, start_ticks: int) -> None:
        self._ns_pid = ns_pid
        self._start_ticks = start_ticks
        self._refused: set[int] = set()
        self._complained: set[int] = set()
        self._inherited: dict[int, TableHeader] = {}
        """By inode."""
        self._next_fd = 0
        """The descriptor to go on with in a process with many files; 0: all have been examined."""
        self._seen: set[int] = set()
        """Inodes of the tables that have been seen until there."""

    @property
    def inherited(self) -> TableHeader | None:
        """Return the header of the youngest table that this process has from another, whose fork it is."""
        return max(self._inherited.values(), key=lambda header: header.created_ns, default=None)

    @property
    def searching(self) -> bool:
        """Return whether files of the process are left for the next :meth:`find`."""
        return self._next_fd > 0

    def stop(self) -> None:
        """Search no further: there is no table."""
        self._next_fd = 0
        self._seen.clear()

    def find(
        self,
        process: ProcessDir,
        part: int | None,
        followed: set[int],
        has_room: Callable[[int], bool],
        errors: list[ReadError],
    ) -> list[FoundTable]:
        """Return new tables that are believed; add to ``errors`` what is to be counted.

        If there are more than ``part`` descriptors, the rest is left for the next call; None: no
        rest is left. ``followed``: the inodes of known tables. ``has_room``: whether one more may
        be kept open, besides this many.

        :raises Gone: the process has ended.
        :raises Denied: its descriptors may not be seen.
        """
        found: list[FoundTable] = []
        known = followed | self._refused
        seen = self._seen
        fds, self._next_fd = find_some_tables(process, self._next_fd, part)
        for fd in fds:
            try:
                file = process.open_table(fd)
            except Gone:
                continue
            except ReadError as error:
                errors.append(error)
                continue
            seen.add(file.inode)
            if file.inode in known:
                file.close()
                continue
            known.add(file.inode)
            if not has_room(len(found)):
                file.close()
                detail = "no file descriptors are left for another table of a process"
                errors.append(ReadError("table", "emfile", detail))
                break
            table = self._judge(fd, file, process, errors)
            if table is None:
                file.close()
            else:
                found.append(table)
        if not self._next_fd:
            # Forget tables that are gone, or a process could make us remember any number.
            self._refused &= seen
            self._complained &= seen
            for inode in self._inherited.keys() - seen:
                del self._inherited[inode]
            seen.clear()
        return found

    def judge_handed(self, file: TableFile, process: ProcessDir) -> FoundTable | None:
        """Return a table that the process has handed over, if it is the process's own and in use.

        :raises Malformed: it is a forgery, or another user has made it.
        :raises Gone: the process has ended.
        """
        header, ahead_ns = self._by_our_clock(parse_header(file.read_header()), process)
        if self._is_anothers(header) or header.closed or not file.is_locked():
            return None
        check_owner(process, file)
        return FoundTable(HANDED_OVER, file, header, ahead_ns)

    def _judge(
        self, fd: int, file: TableFile, process: ProcessDir, errors: list[ReadError]
    ) -> FoundTable | None:
        """Return the table, if it is this process's own and in use."""
        header, ahead_ns = None, 0
        data = file.read_header()
        if any(data):  # else it is being made at this moment
            try:
                parsed, ahead_ns = self._by_our_clock(parse_header(data), process)
                header = self._believed(parsed, file, process)
                if self._is_anothers(parsed) and process.is_open_for_writing(fd):
                    self._inherited[file.inode] = parsed
            except ReadError as error:
                if file.inode not in self._complained:
                    self._complained.add(file.inode)
                    errors.append(error)
        return None if header is None else FoundTable(fd, file, header, ahead_ns)

    def _believed(
        self, header: TableHeader, file: TableFile, process: ProcessDir
    ) -> TableHeader | None:
        """Return the header, if it is this process's own and in use; else the table is not looked at again.

        :raises Malformed: it is another user's, for now.
        """
        if self._is_anothers(header) or header.closed:
            # It was inherited by a fork, or is held open by a daemon like ours, or it is out of use
            # for good.
            self._refused.add(file.inode)
            return None
        check_owner(process, file)
        return header

    def _by_our_clock(self, header: TableHeader, process: ProcessDir) -> tuple[TableHeader, int]:
        """Return the header with its times by our clock, and how far its maker's clock is ahead of ours."""
        if header.pid != self._ns_pid or header.start_ticks == self._start_ticks:
            return header, 0
        ahead_ns = clocks_ahead(process).boottime_ns
        return header.by_our_clock(ahead_ns, self._start_ticks), ahead_ns

    def _is_anothers(self, header: TableHeader) -> bool:
        return not header.names(self._ns_pid, self._start_ticks)
