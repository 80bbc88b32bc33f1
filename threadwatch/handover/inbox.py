"""Holds tables that have been handed over, from their receipt until a poll has judged them.

The receiver's thread puts them in, the polling thread takes them out. Each descriptor that is kept costs
the daemon one of its own, so the inbox has room for a share of those, and the processes of one user get
half of what all others leave.
"""

from __future__ import annotations

import resource
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from threadwatch.model.keys import HANDOVER_RESULTS, HandoverResult
from threadwatch.procfs import TableFile

_SHARE = 16
"""One in this many file descriptors may be a table that is yet to be judged."""
_MOST = 4096
_MOST_TRIES = 32
"""Polls that can put off a process (because reading it could wait) before its tables are given up."""


@dataclass(slots=True, eq=False)
class HandedTable:
    """A table that a process has handed over."""

    pid: int
    """The process that has sent it, as the kernel says: SO_PEERCRED in unix(7)."""
    uid: int
    """That process's effective user then."""
    file: TableFile
    tries: int = 0


class Inbox:
    """Tables by the PIDs of their senders. Any thread may call its methods."""

    def __init__(self, most: int | None = None) -> None:
        """``most``: how many tables are kept; by default a share of the limit of open files."""
        if most is None:
            most = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE, _MOST)
        self._most = most
        self._lock = threading.Lock()
        self._tables: dict[int, list[HandedTable]] = {}
        """By PID."""
        self._of_users: Counter[int] = Counter()
        """How many are kept, by uid."""
        self._results: Counter[HandoverResult] = Counter()
        self.receiving = False
        """Whether tables are received at all. Written by :mod:`threadwatch.handover.receiver`."""

    def put(self, pid: int, uid: int, file: TableFile) -> None:
        """Keep a table, if there is room; else close it, and count that."""
        with self._lock:
            mine = self._of_users[uid]
            others = self._of_users.total() - mine
            if mine < (self._most - others + 1) // 2:
                self._of_users[uid] += 1
                self._tables.setdefault(pid, []).append(HandedTable(pid, uid, file))
                return
            if not mine:
                del self._of_users[uid]
        file.close()
        self.count("too_many")

    def senders(self) -> set[int]:
        """Return the PIDs of processes whose tables are to be judged."""
        if not self._tables:
            return set()
        with self._lock:
            return set(self._tables)

    def take(self, pid: int) -> list[HandedTable]:
        """Return the tables of a process, for the caller to judge, to count and to close."""
        with self._lock:
            tables = self._tables.pop(pid, [])
            for table in tables:
                self._of_users[table.uid] -= 1
                if not self._of_users[table.uid]:
                    del self._of_users[table.uid]
        return tables

    def put_off(self, pid: int) -> None:
        """Keep the tables of a process that could not be looked at; give them up after some polls."""
        with self._lock:
            tables = self._tables.get(pid, [])
            for table in tables:
                table.tries += 1
        if tables and tables[0].tries > _MOST_TRIES:
            self.drop(pid, "unwatched")

    def drop(self, pid: int, why: HandoverResult) -> None:
        """Close the tables of a process, if there are any left, and count them."""
        for table in self.take(pid):
            table.file.close()
            self.count(why)

    def count(self, result: HandoverResult, tables: int = 1) -> None:
        """Count the result of a table, or of several tables with the same."""
        with self._lock:
            self._results[result] += tables

    def results(self) -> Mapping[HandoverResult, int] | None:
        """Return how often each result has been counted; None: no tables are received."""
        if not self.receiving:
            return None
        with self._lock:
            return MappingProxyType({result: self._results[result] for result in HANDOVER_RESULTS})

    def close(self) -> None:
        """Close all tables."""
        for pid in self.senders():
            for table in self.take(pid):
                table.file.close()
