"""Searches for the tables of processes, as far as one poll may take."""

from __future__ import annotations

import sys
from collections.abc import Callable

from threadwatch.discovery.looks import Looks
from threadwatch.errors import ReadError
from threadwatch.model.readings import NS_PER_TICK
from threadwatch.names.finder import FILES
from threadwatch.procfs import parse_stat
from threadwatch.targets.process import Process

_FILES_PER_POLL = 8 * FILES
"""File descriptors that are examined in one poll, of processes that have more than the first ones."""
_FILE_NS = 5_000
"""CPU time that it takes to examine one descriptor."""
_FREE_NS = 100_000_000
"""CPU time that the daemon spends on each process's descriptors in any case: a fork has its parent's."""


class TableSearch:
    """Searches for tables. ``thorough``: take the time for all files of all processes at once."""

    def __init__(self, *, thorough: bool) -> None:
        self._files_per_poll = sys.maxsize if thorough else _FILES_PER_POLL
        self._files_left = self._files_per_poll

    def begin(self) -> None:
        """Begin a new poll."""
        self._files_left = self._files_per_poll

    def search(
        self, watched: Process, looks: Looks, may_read_memory: Callable[[], bool]
    ) -> list[ReadError]:
        """Search for tables of a process; return the errors.

        :raises Gone: the process has ended.
        """
        errors: list[ReadError] = []
        tables = watched.tables
        try:
            if not tables.searching or self._may_go_on(watched, looks, may_read_memory):
                errors += tables.search(watched.dir)
            while tables.searching and not tables.known:
                if not self._may_go_on(watched, looks, may_read_memory):
                    break
                errors += tables.search(watched.dir)
        except ReadError as error:
            errors.append(error)
        return errors

    def _may_go_on(
        self, watched: Process, looks: Looks, may_read_memory: Callable[[], bool]
    ) -> bool:
        """Return whether to examine more of the files of a process that has many.

        Only if a table is mapped into its memory, if its CPU time has paid for that, and as far as
        one poll may take: the rest is for the next one.

        :raises ReadError: it has not paid.
        """
        if not may_read_memory():
            return False
        if not watched.dir.maps_table():
            watched.tables.stop_searching()
            return False
        stat = parse_stat(watched.dir.read("stat", "stat"))
        used_ns = (stat.user_ticks + stat.system_ticks) * NS_PER_TICK
        searched = looks.files_searched
        if searched * _FILE_NS > used_ns + _FREE_NS:
            detail = f"its table is not among the first {searched + FILES} files that are open"
            raise ReadError("fd", "too_many", detail)
        if self._files_left <= 0:
            looks.again()  # go on in the next poll, whether it runs or not
            return False
        self._files_left -= FILES
        looks.search_files(FILES)
        return True
