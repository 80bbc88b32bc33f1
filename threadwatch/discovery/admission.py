"""Decides whether a process is watched, and in which group, from what it reads of the process.

A process whose memory is locked is judged without its command line, which is in that memory; a
known process stays what it is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from threadwatch.config.settings import Config
from threadwatch.discovery.looks import Looks
from threadwatch.discovery.programs import Programs
from threadwatch.discovery.table_search import TableSearch
from threadwatch.discovery.user_names import UserNames
from threadwatch.errors import Denied, Gone, Malformed, ReadError
from threadwatch.handover.inbox import Inbox
from threadwatch.labels.groups import (
    CGROUP_MATCHERS,
    ProcessFacts,
    choose_group,
    config_needs,
    is_multiprocessing_child,
    is_python,
    is_unpacked_pex,
)
from threadwatch.model.keys import NOWHERE, Place, ProcessKey
from threadwatch.names.best import BestNames
from threadwatch.names.memory.source import MemoryNames
from threadwatch.names.published import Published
from threadwatch.names.slot_budget import SharedBudget
from threadwatch.names.slots import TableHeader
from threadwatch.procfs import (
    Cgroup,
    ProcessDir,
    decode_comm,
    parse_cgroup,
    parse_cmdline,
    parse_stat,
    parse_status,
    parse_waited,
)
from threadwatch.procfs.environ import parse_environ
from threadwatch.procfs.marks import Lock
from threadwatch.procfs.own import read_own
from threadwatch.reading.hangs import HangRecords
from threadwatch.reading.reader import GuardedReader, owner_of
from threadwatch.targets.process import Facts, Membership, Process
from threadwatch.targets.threads import ThreadBook

_ANCESTORS = 16
"""How many generations back the maker of a table is searched for."""

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
        self._watched = watched
        self._guarded = guarded
        self._budget = budget
        self._errors = errors
        self._inbox = inbox
        self._programs = Programs()
        self._users = UserNames()
        self._search = TableSearch(thorough=thorough)
        self._waits_left = _WAITS_PER_POLL
        self._own_container = parse_cgroup(read_own("cgroup")).container
        self.use(config)

    def use(self, config: Config) -> None:
        """Decide by another configuration from now on."""
        self._config = config
        self._needs = config_needs(config)
        self._users.doubt()

    def renamed_users(self) -> set[int]:
        """Return the users of whom another name is known now than processes were judged by."""
        if "user" not in self._needs:
            return set()
        self._users.refresh()
        return self._users.take_news()

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

        ``data``: its stat. ``looks``, ``hangs``: its records. ``asked_for``: it is watched whatever it is.
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
            membership=Membership("", self._config.default),
            tables=tables,
            names=tables,
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
            ),
            wanted=lambda: watched.membership.config.names_from_memory,
        )
        try:
            chosen = self._choose(watched, looks, asked_for=asked_for)
        except BaseException:
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
        exe = self._exe(watched)
        python = is_python(exe, watched.facts.cmdline, watched.facts.comm)
        errors = []
        if not watched.tables.known:
            errors = self._search.search(
                watched, looks, lambda: self.may_read(watched.hangs, "memory", watched.dir)
            )
        believed = self._take_handed(watched)
        if python:
            # A table that was handed over need not be found.
            self._errors.extend(x for x in errors if not (believed and isinstance(x, Denied)))
        chosen = self._by_config(watched, looks, exe, python=python, asked_for=asked_for)
        self._inbox.count("unwatched" if chosen is None else "believed", believed)
        return chosen

    def _by_config(
        self, watched: Process, looks: Looks, exe: str | None, *, python: bool, asked_for: bool
    ) -> Membership | None:
        """Return the group that the process belongs to by the configuration, if it is to be watched."""
        facts = watched.facts
        child_of = None
        inherited = None if watched.tables.known else watched.tables.inherited
        if inherited is not None or is_multiprocessing_child(facts.cmdline):
            child_of = self._watched.get(facts.ppid)
            if inherited is not None:
                child_of = self._maker_of(inherited, child_of)
            if child_of is None and watched.membership.group:
                return watched.membership  # an orphan stays what it was
        config = replace(self._config, watch_unmatched=True) if asked_for else self._config
        python = python or asked_for or inherited is not None
        named = "user" in self._needs
        cgroup = self._cgroup(watched, wanted=python or watched.tables.known or named)
        apart = cgroup is not None and self._is_apart(cgroup)
        shown = ProcessFacts(
            exe=exe,
            cmdline=facts.cmdline,
            comm=facts.comm,
            user=self._user(facts.uid, apart=apart) if named else None,
            pex=self._pex(watched),
            cgroup=cgroup or Cgroup(),
            apart=apart,
            python=python,
            published=watched.tables.known,
            parent_group=child_of.membership.group if child_of else None,
            parent_config=child_of.membership.config if child_of else None,
        )
        chosen = choose_group(config, shown)
        if chosen is None and config.watch_unmatched and self._has_python(watched, looks, exe):
            cgroup = self._cgroup(watched, wanted=True) or Cgroup()
            shown = replace(shown, python=True, cgroup=cgroup, apart=self._is_apart(cgroup))
            chosen = choose_group(config, shown)
        if chosen is None:
            return None
        return Membership(
            chosen[1], chosen[0], _place(cgroup or self._cgroup(watched, wanted=True))
        )

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

    def _has_python(self, watched: Process, looks: Looks, exe: str | None) -> bool:
        """Return whether there is a Python in a process that is not called so."""
        if exe is None:
            return False
        if looks.embeds != exe:
            looks.found(None)
            if self.may_read(watched.hangs, "memory", watched.dir):
                looks.found(exe if self._programs.has_python(watched.dir) else None)
        return looks.embeds is not None

    def _maker_of(self, header: TableHeader, parent: Process | None) -> Process | None:
        """Return the process among the parent and its ancestors that made a table; None if not watched."""
        for _ in range(_ANCESTORS):
            if parent is None or header.names(parent.ns_pid, parent.key.start_ticks):
                return parent
            parent = self._watched.get(parent.facts.ppid)
        return None

    def _exe(self, watched: Process) -> str | None:
        try:
            return watched.dir.exe()
        except Denied as error:
            # It is hidden from us, as most of a host's processes are; worth counting for Python
            # ones.
            if is_python(None, watched.facts.cmdline, watched.facts.comm):
                self._errors.append(error)
            return None

    def _pex(self, watched: Process) -> str | None:
        """Return the file of an unpacked PEX, where the process's environment may be read."""
        if not is_unpacked_pex(watched.facts.cmdline) or not self.may_read(
            watched.hangs, "memory", watched.dir
        ):
            return None
        try:
            environ = parse_environ(watched.dir.read("environ", "environ"))
        except ReadError:  # only a name depends on it
            return None
        return environ.get("PEX") if environ else None

    def _cgroup(self, watched: Process, *, wanted: bool) -> Cgroup | None:
        """Return where a process runs, if that is ``wanted``, or the configuration needs it of any."""
        if not wanted and not self._needs & CGROUP_MATCHERS:
            return None
        try:
            return parse_cgroup(watched.dir.read("cgroup", "cgroup"))
        except Malformed as error:
            self._errors.append(error)
        except Gone:
            watched.dir.owner_uid()  # has it ended? Else the kernel has no cgroups
        return Cgroup()

    def _user(self, uid: int, *, apart: bool) -> str:
        """Return a user's name; in another container its number, which has another name there."""
        return str(uid) if apart else self._users.name(uid)

    def _is_apart(self, cgroup: Cgroup) -> bool:
        """Return whether a process is in a container, and that is not our own."""
        return cgroup.container is not None and cgroup.container != self._own_container


def _place(cgroup: Cgroup | None) -> Place:
    if cgroup is None:
        return NOWHERE
    return Place(cgroup.container or "", cgroup.pod_uid or "", cgroup.systemd_unit or "")


def _no_memory(process: ProcessDir) -> bool:
    """Return whether a process has no memory for a command line; an empty title looks the same."""
    return process.read("statm", "statm").startswith(b"0 ")
