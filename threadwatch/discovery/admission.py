"""Decides whether a process is watched; looks for its table, and judges tables that it has handed over.

A process whose memory is locked is judged without its command line, which is in that memory; a
known process stays what it is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from threadwatch.config.settings import Config
from threadwatch.discovery.group_chooser import GroupChooser
from threadwatch.discovery.looks import Looks
from threadwatch.discovery.table_search import TableSearch
from threadwatch.errors import Denied, Gone, ReadError
from threadwatch.handover.inbox import Inbox
from threadwatch.labels.groups import is_python
from threadwatch.model.keys import ProcessKey
from threadwatch.names.best import BestNames
from threadwatch.names.memory.source import LOOK_COST_NS, MemoryNames
from threadwatch.names.published import Published
from threadwatch.names.slot_budget import SharedBudget
from threadwatch.procfs import (
    ProcessDir,
    decode_comm,
    parse_cmdline,
    parse_stat,
    parse_status,
    parse_waited,
)
from threadwatch.procfs.marks import Lock
from threadwatch.reading.hangs import HangRecords
from threadwatch.reading.reader import GuardedReader, owner_of
from threadwatch.targets.process import Facts, Membership, Process
from threadwatch.targets.threads import ThreadBook
from threadwatch.tasks.source import LoopSource

_WAITS_PER_POLL = 128
"""Processes in which names are confirmed at once, in the poll that meets them: 2 ms each."""


class Admission:
    """Decides by a configuration which processes are watched."""

    def __init__(
        self,
        config: Config,
        watched: Mapping[int, Process],
        guarded: GuardedReader,
        budget: SharedBudget,
        errors: list[ReadError],
        inbox: Inbox,
        *,
        thorough: bool,
    ) -> None:
        """``watched``: by PID, kept up to date by the caller; parents are looked up there.

        ``inbox``: the tables that processes have handed over. ``thorough``: take the time to look through
        all files of all processes at once.
        """
        self._guarded = guarded
        self._budget = budget
        self._errors = errors
        self._inbox = inbox
        self._thorough = thorough
        self._search = TableSearch(thorough=thorough)
        self._waits_left = _WAITS_PER_POLL
        self._default = config.default
        self._groups = GroupChooser(config, watched, self._may_read_memory, errors)

    def use(self, config: Config) -> None:
        """Decide by another configuration from now on."""
        self._default = config.default
        self._groups.use(config)

    def renamed_users(self) -> set[int]:
        """Return what :meth:`.GroupChooser.renamed_users` does."""
        return self._groups.renamed_users()

    def begin(self) -> None:
        """Begin a poll."""
        self._search.begin()
        self._waits_left = _WAITS_PER_POLL

    def _may_wait(self) -> bool:
        """Return whether one more process may be waited for, 2 ms, until its names are confirmed."""
        self._waits_left -= 1
        return self._waits_left >= 0

    def may_read(self, hangs: HangRecords, lock: Lock, process: ProcessDir) -> bool:
        """Return whether to read in a process what can wait for this lock."""
        now_ns = time.monotonic_ns()
        return self._guarded.may_read(hangs, lock, lambda: owner_of(process), now_ns)

    def _may_read_memory(self, watched: Process) -> bool:
        return self.may_read(watched.hangs, "memory", watched.dir)

    def admit(
        self,
        process: ProcessDir,
        key: ProcessKey,
        data: bytes,
        looks: Looks,
        hangs: HangRecords,
        *,
        asked_for: bool,
        newborn: bool,
    ) -> Process | None:
        """Return the record of a process that has to be watched; None for any other.

        ``data``: its stat. ``looks``, ``hangs``: its records. ``asked_for``: it is watched, whatever it runs.
        ``newborn``: it was born since the last poll.
        """
        stat = parse_stat(data)
        cmdline = self._cmdline(process, hangs)
        if not cmdline and stat.num_threads == 1 and (stat.state == "Z" or _no_memory(process)):
            return None  # a zombie, or one without memory of its own: the kernel's, or not yet
        status = parse_status(process.read("status", "status"))
        ns_pid = status.nspid[-1] if status.nspid else key.pid
        tables = Published(ns_pid=ns_pid, start_ticks=stat.start_ticks, budget=self._budget)
        watched = Process(
            key=key,
            dir=process,
            ns_pid=ns_pid,
            facts=Facts(stat.ppid, status.uids[1], decode_comm(stat.comm), cmdline or ()),
            membership=Membership("", self._default),
            tables=tables,
            names=tables,
            loops=LoopSource(ns_pid),
            threads=ThreadBook(parse_waited(data)),
            newborn=newborn,
            hangs=hangs,
        )
        watched.names = BestNames(
            tables,
            MemoryNames(
                ns_pid=ns_pid,
                room=self._budget,
                may_read=lambda: self.may_read(hangs, "memory", process),
                may_wait=self._may_wait,
                price_ns=0 if self._thorough else LOOK_COST_NS,
            ),
            wanted=lambda: watched.membership.config.names_from_memory,
        )
        try:
            chosen = self._choose(watched, looks, asked_for=asked_for)
        except BaseException:  # whatever ends this: its files are closed
            watched.names.close()
            raise
        if chosen is None:
            watched.names.close()
            return None
        watched.membership = chosen
        return watched

    def readmit(self, watched: Process, looks: Looks, *, asked_for: bool) -> bool:
        """Return whether a process is still to be watched; its group may be another from now on."""
        if not self.may_read(watched.hangs, "exec", watched.dir):
            return True
        looks.done(watched.last.clock_ns)
        stat = parse_stat(watched.dir.read("stat", "stat"))
        cmdline = self._cmdline(watched.dir, watched.hangs)
        if cmdline is None:
            looks.again()
        uid = watched.dir.owner_uid()  # a service can have given up root
        watched.facts = Facts(
            stat.ppid, uid, decode_comm(stat.comm), cmdline or watched.facts.cmdline
        )
        if cmdline:  # a zombie has none, and stays what it was
            before = watched.tables.known
            chosen = self._choose(watched, looks, asked_for=asked_for)
            if chosen is None:
                return False
            if chosen != watched.membership or watched.tables.known != before:
                watched.membership = chosen
                watched.rest.disturb()
        return True

    def _cmdline(self, process: ProcessDir, hangs: HangRecords) -> tuple[str, ...] | None:
        """Return the command line; None while reading it makes us wait."""
        if not self.may_read(hangs, "memory", process):
            return None
        return parse_cmdline(process.read_cmdline())

    def _choose(self, watched: Process, looks: Looks, *, asked_for: bool) -> Membership | None:
        exe = self._groups.exe(watched)
        python = is_python(exe, watched.facts.cmdline, watched.facts.comm)
        errors = []
        if not watched.tables.known:
            errors = self._search.search(watched, looks, lambda: self._may_read_memory(watched))
        believed = self._take_handed(watched)
        if python:
            # A table that was handed over need not be found.
            self._errors.extend(x for x in errors if not (believed and isinstance(x, Denied)))
        chosen = self._groups.choose(watched, looks, exe, python=python, asked_for=asked_for)
        self._inbox.count("unwatched" if chosen is None else "believed", believed)
        return chosen

    def _take_handed(self, watched: Process) -> int:
        """Judge the tables that the process has handed over lately; return how many are believed.

        Count the others.

        :raises Gone: it has ended.
        """
        handed = self._inbox.take(watched.key.pid)
        believed = 0
        try:
            while handed:
                file = handed.pop().file
                result = watched.tables.take_handed(watched.dir, file, self._errors)
                if result == "believed":
                    believed += 1
                    watched.rest.disturb()
                else:
                    self._inbox.count(result)
        except Gone:
            self._inbox.count("ended")
            raise
        finally:
            for rest in handed:
                rest.file.close()
                self._inbox.count("ended")
        return believed


def _no_memory(process: ProcessDir) -> bool:
    """Return whether a process has no memory for a command line; an empty title looks the same."""
    return process.read("statm", "statm").startswith(b"0 ")
