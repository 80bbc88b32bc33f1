"""Decides when to read the names of a process's threads from its memory, and when to forget them.

* Its Python is looked for as :mod:`.search` says, once the process has used as much CPU time as that takes:
  an interpreter that has started has, and a thousand children that a process forks cost nothing.
* Its memory ends with its program (exec). Then all that was told is forgotten, and the new one looked into.
* It is read as far as it has paid for it with CPU time (:mod:`threadwatch.names.slot_budget`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from threadwatch.errors import Gone, ReadError
from threadwatch.model.keys import Python as PythonView
from threadwatch.names.memory.following import CONFIRM_AFTER_NS, Following
from threadwatch.names.memory.search import PythonSearch
from threadwatch.names.slot_budget import SharedBudget, SlotBudget
from threadwatch.names.slots import Gil
from threadwatch.names.source import Living, Name
from threadwatch.procfs import ProcessDir

LOOK_COST_NS = 3_000_000
"""CPU time that it takes to find a process's Python and read its first names."""

_MOST_FAILURES = 8
"""Updates in a row that fail before its Python is looked for anew."""


class _Paid:
    """The budget of one process, as :class:`.following.Following` asks it."""

    def __init__(self, budget: SlotBudget, process: ProcessDir) -> None:
        self._budget = budget
        self._process = process

    def allows(self) -> bool:
        return self._budget.allows(self._process)

    def spend(self, slots: int) -> None:
        self._budget.spend(self._process, slots)


class MemoryNames:
    """Names of the threads of one process, read from its memory."""

    def __init__(
        self,
        *,
        ns_pid: int,
        room: SharedBudget,
        may_read: Callable[[], bool],
        may_wait: Callable[[], bool],
        price_ns: int = LOOK_COST_NS,
    ) -> None:
        """``may_read``: whether its memory may be read now; ``may_wait``: whether we may wait 2 ms for it.

        ``price_ns``: CPU time that it has to have used before its Python is looked for.
        """
        self._ns_pid = ns_pid
        self._budget = SlotBudget(room)
        self._may_read = may_read
        self._may_wait = may_wait
        self._price_ns = price_ns
        self._search = PythonSearch(ns_pid)
        self._following: Following | None = None
        self._failures = 0
        self._read_last: tuple[int, int] | None = None
        """In which poll it was read, and after how many births and ends: it need not be twice in one."""

    @property
    def failure(self) -> ReadError | None:
        """Return why its Python has not been found, if that was looked for."""
        return self._search.failure

    @property
    def known(self) -> bool:
        """Return whether its Python has been found."""
        return self._following is not None

    @property
    def python(self) -> PythonView | None:
        """Return which Python it is; None: not known."""
        if self._following is None:
            return None
        found = self._following.python
        version = found.hexversion
        return PythonView(
            "cpython",
            (version >> 24, version >> 16 & 0xFF, version >> 8 & 0xFF),
            found.offsets.free_threaded,
            not found.offsets.free_threaded or bool(self.gils),
        )

    @property
    def gils(self) -> tuple[Gil, ...]:
        """Return the GILs of its interpreters, the main interpreter's first, each once."""
        return () if self._following is None else self._following.gils

    def update(
        self, process: ProcessDir, poll: int, used_ns: int, living: Living
    ) -> tuple[set[int], bool]:
        """Read what has changed; return the TIDs of threads with a new name, and whether all may have one.

        ``used_ns``: CPU time of the process in its life.
        """
        following = self._following
        if following is None:
            if used_ns < self._price_ns or not self._search.is_due(poll) or not self._may_read():
                return set(), False
            return set(), self._look(process, poll, living)
        if self._read_last == (poll, living.changes) or not self._may_read():
            return set(), False
        try:
            self._read(process, poll, living)
        except Gone:  # exec, or a main thread that has ended before the others
            self.forget()
            return set(), True
        except ReadError:
            self._failures += 1
            if self._failures >= _MOST_FAILURES:
                self.forget()
                return set(), True
        else:
            self._failures = 0
        return following.take_changed(), False

    def name_of(self, tid: int, start_ticks: int) -> Name | None:
        """Return the name of the thread with this TID and start time; None: not known."""
        told = self._following.name_of(tid, start_ticks) if self._following else None
        return None if told is None else Name(told.name, told.cut, "memory")

    def is_coming(self, tid: int, start_ticks: int) -> bool:
        """Return whether that thread's name has been read, and is told as soon as it is confirmed."""
        return self._following is not None and self._following.is_coming(tid, start_ticks)

    def tid_of_ident(self, ident: int) -> int | None:
        """Return the TID of the living thread with this ``threading.get_ident()``."""
        return None if self._following is None else self._following.tid_of_ident(ident)

    def still_tells(self, gil: Gil) -> bool:
        """Return whether the process has this GIL even now."""
        found = self._search.found
        if self._following is None or found is None or not self._may_read():
            return False
        try:
            return gil in self._following.find_gils(found.memory)
        except (Gone, ReadError):
            return False

    def forget(self) -> None:
        """Let go of its memory, and of all that was told; look again in the next update."""
        self._search.forget()
        self._following = self._read_last = None
        self._failures = 0

    def _look(self, process: ProcessDir, poll: int, living: Living) -> bool:
        """Look for its Python, and read names for the first time; return whether there is one."""
        found = self._search.look(process, poll)
        if found is None:
            return False
        self._following = Following(found.python, self._ns_pid)
        try:
            self._read_last = None
            self._read(process, poll, living)
            if self._following.pending and self._may_wait():
                # names that come in the next poll would be too late for what was used before this one
                time.sleep(CONFIRM_AFTER_NS / 1e9)
                self._following.confirm(found.memory, living.started())
            self._following.take_changed()
        except Gone:
            self._search.forget(look_at_once=False)
            self._following = None
            return False
        except ReadError:
            pass  # they are read again in the next poll
        return True

    def _read(self, process: ProcessDir, poll: int, living: Living) -> None:
        found = self._search.found
        if found is None or self._following is None:
            return
        last, self._read_last = self._read_last, (poll, living.changes)
        changed = None if last is None else living.changed(last[1])
        self._budget.begin()
        paid = _Paid(self._budget, process)
        started, lately = living.started(), living.lately()
        self._following.update(found.memory, started, lately, paid, changed)
