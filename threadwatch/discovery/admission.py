"""Whether a process is watched, and in which group: what is read of it to tell.

A process whose memory is locked, where its command line is, is judged without that; if it is known, it stays
what it is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace

from threadwatch.config.parse import Config, GroupConfig
from threadwatch.discovery.programs import Programs
from threadwatch.discovery.user_names import UserNames
from threadwatch.errors import Denied, ReadError
from threadwatch.labels.groups import (
    ProcessFacts,
    choose_group,
    config_needs,
    is_multiprocessing_child,
    is_python,
    is_unpacked_pex,
)
from threadwatch.model.readings import NS_PER_TICK
from threadwatch.model.view import ProcessKey
from threadwatch.names.best import BestNames
from threadwatch.names.memory.source import MemoryNames
from threadwatch.names.published import FILES, Published
from threadwatch.names.slot_budget import SharedBudget
from threadwatch.names.slots import TableHeader
from threadwatch.procfs import (
    Cgroup,
    ProcessDir,
    Stat,
    decode_comm,
    parse_cgroup,
    parse_cmdline,
    parse_stat,
    parse_status,
)
from threadwatch.procfs.environ import parse_environ
from threadwatch.procfs.marks import Lock
from threadwatch.reading.reader import GuardedReader, HangRecords, owner_of
from threadwatch.targets.process import Watched

_ANCESTORS = 16
"""How many generations back the maker of a table is looked for."""

_WAITS_PER_POLL = 128
"""Processes in which names are confirmed at once, in the poll that meets them: 2 ms each."""
_FILES_PER_POLL = 8 * FILES
"""File descriptors that are looked at in one poll, of processes that have more than the first ones."""
_FILE_NS = 5_000
"""CPU time that it takes to look at one."""
_FREE_NS = 100_000_000
"""CPU time of ours that a process has for that in any case: a fork has all of its parent's files."""


class Admission:
    """Decides by a configuration which processes are watched."""

    def __init__(
        self,
        config: Config,
        watched: Mapping[int, Watched],
        guarded: GuardedReader,
        room: SharedBudget,
        errors: list[ReadError],
        *,
        thorough: bool,
    ) -> None:
        """``watched``: by PID, kept up to date by the caller; parents are looked up there.

        ``thorough``: take the time to look through all files of all processes at once.
        """
        self._watched = watched
        self._guarded = guarded
        self._room = room
        self._errors = errors
        self._programs = Programs()
        self._users = UserNames()
        self._files_per_poll = sys.maxsize if thorough else _FILES_PER_POLL
        self._files_left = self._files_per_poll
        self._waits_left = _WAITS_PER_POLL
        self.use(config)

    def use(self, config: Config) -> None:
        """Decide by another configuration from now on."""
        self._config = config
        self._needs = config_needs(config)
        self._users.doubt()

    def renamed_users(self) -> set[int]:
        """Users of whom another name has come to be known than processes were judged by."""
        if "user" not in self._needs:
            return set()
        self._users.refresh()
        return self._users.take_news()

    def begin(self) -> None:
        """A poll begins."""
        self._files_left = self._files_per_poll

    def _may_wait(self) -> bool:
        """Return whether one more process may be waited for, 2 ms, until its names are confirmed."""
        self._waits_left -= 1
        return self._waits_left >= 0

    def may_read(self, hangs: HangRecords, lock: Lock, process: ProcessDir) -> bool:
        """Whether to read in a process what can wait for this lock."""
        now_ns = time.monotonic_ns()
        return self._guarded.may_read(hangs, lock, lambda: owner_of(process), now_ns)

    def admit(
        self,
        process: ProcessDir,
        key: ProcessKey,
        stat: Stat,
        hangs: HangRecords,
        *,
        asked_for: bool,
    ) -> Watched | None:
        """What is to be kept of a process that is to be watched; None for any other.

        ``asked_for``: it is watched whatever it is.
        """
        cmdline = self._cmdline(process, hangs)
        if not cmdline and stat.num_threads == 1 and (stat.state == "Z" or _no_memory(process)):
            return None  # a zombie, or one that has no memory of its own: the kernel's, or not yet
        status = parse_status(process.read("status", "status"))
        ns_pid = status.nspid[-1] if status.nspid else key.pid
        tables = Published(ns_pid=ns_pid, start_ticks=stat.start_ticks, room=self._room)
        watched = Watched(
            key=key,
            dir=process,
            ns_pid=ns_pid,
            ppid=stat.ppid,
            uid=status.uids[1],
            comm=decode_comm(stat.comm),
            cmdline=cmdline or (),
            group="",
            config=self._config.default,
            tables=tables,
            names=tables,
            hangs=hangs,
        )
        watched.names = BestNames(
            tables,
            MemoryNames(
                ns_pid=ns_pid,
                room=self._room,
                may_read=lambda: self.may_read(hangs, "memory", process),
                may_wait=self._may_wait,
            ),
            wanted=lambda: watched.config.names_from_memory,
        )
        try:
            chosen = self._choose(watched, asked_for=asked_for)
        except BaseException:
            watched.names.close()
            raise
        if chosen is None:
            watched.names.close()
            return None
        watched.config, watched.group = chosen
        return watched

    def readmit(self, watched: Watched, *, asked_for: bool) -> bool:
        """Whether a process is still to be watched; its group may be another from now on."""
        if not self.may_read(watched.hangs, "exec", watched.dir):
            return True
        watched.looked_clock_ns = watched.clock_ns
        stat = parse_stat(watched.dir.read("stat", "stat"))
        cmdline = self._cmdline(watched.dir, watched.hangs)
        if cmdline is None:
            watched.looked_clock_ns = -1
        watched.ppid, watched.comm = stat.ppid, decode_comm(stat.comm)
        watched.uid = watched.dir.owner_uid()  # a service can have given up root
        if cmdline:  # a zombie has none, and is what it was
            watched.cmdline = cmdline
            before = watched.tables.known
            chosen = self._choose(watched, asked_for=asked_for)
            if chosen is None:
                return False
            if chosen != (watched.config, watched.group) or watched.tables.known != before:
                watched.config, watched.group = chosen
                watched.settled = False
        return True

    def _cmdline(self, process: ProcessDir, hangs: HangRecords) -> tuple[str, ...] | None:
        """The command line; None while that keeps us waiting."""
        if not self.may_read(hangs, "memory", process):
            return None
        return parse_cmdline(process.read_cmdline())

    def _choose(self, watched: Watched, *, asked_for: bool) -> tuple[GroupConfig, str] | None:
        exe = self._exe(watched)
        python = is_python(exe, watched.cmdline, watched.comm)
        if not watched.tables.known:
            self._search(watched, counted=python)
        cgroup = self._cgroup(watched)
        child_of = None
        inherited = None if watched.tables.known else watched.tables.inherited
        if inherited is not None or is_multiprocessing_child(watched.cmdline):
            child_of = self._watched.get(watched.ppid)
            if inherited is not None:
                child_of = self._maker_of(inherited, child_of)
            if child_of is None and watched.group:
                return watched.config, watched.group  # an orphan stays what it was
        config = replace(self._config, watch_unmatched=True) if asked_for else self._config
        facts = ProcessFacts(
            exe=exe,
            cmdline=watched.cmdline,
            comm=watched.comm,
            user=self._users.name(watched.uid) if "user" in self._needs else None,
            pex=self._pex(watched),
            systemd_unit=cgroup.systemd_unit if cgroup else None,
            container=cgroup.container if cgroup else None,
            python=python or asked_for or inherited is not None,
            published=watched.tables.known,
            parent_group=child_of.group if child_of else None,
            parent_config=child_of.config if child_of else None,
        )
        chosen = choose_group(config, facts)
        if chosen is None and config.watch_unmatched and self._has_python(watched, exe):
            chosen = choose_group(config, replace(facts, python=True))
        return chosen

    def _has_python(self, watched: Watched, exe: str | None) -> bool:
        """Whether there is a Python in a process that is not called so."""
        if exe is None:
            return False
        if watched.embeds != exe:
            watched.embeds = None
            if self.may_read(watched.hangs, "memory", watched.dir):
                watched.embeds = exe if self._programs.has_python(watched.dir) else None
        return watched.embeds is not None

    def _maker_of(self, header: TableHeader, parent: Watched | None) -> Watched | None:
        """The process among the parent and its own parents that made a table; None if it is not watched."""
        for _ in range(_ANCESTORS):
            if parent is None or header.names(parent.ns_pid, parent.key.start_ticks):
                return parent
            parent = self._watched.get(parent.ppid)
        return None

    def _exe(self, watched: Watched) -> str | None:
        try:
            return watched.dir.exe()
        except Denied as error:
            # hidden from us, as it is for most of a host's processes; worth counting for Python ones
            if is_python(None, watched.cmdline, watched.comm):
                self._errors.append(error)
            return None

    def _pex(self, watched: Watched) -> str | None:
        """The file of an unpacked PEX, where the process's environment may be read."""
        if not is_unpacked_pex(watched.cmdline) or not self.may_read(
            watched.hangs, "memory", watched.dir
        ):
            return None
        try:
            environ = parse_environ(watched.dir.read("environ", "environ"))
        except ReadError:  # only a name hangs on it
            return None
        return environ.get("PEX") if environ else None

    def _search(self, watched: Watched, *, counted: bool) -> None:
        errors: list[ReadError] = []
        try:
            if not watched.tables.searching or self._may_go_on(watched):
                errors += watched.tables.search(watched.dir)
            while watched.tables.searching and not watched.tables.known:
                if not self._may_go_on(watched):
                    break
                errors += watched.tables.search(watched.dir)
        except ReadError as error:
            errors.append(error)
        if counted:
            self._errors.extend(errors)

    def _may_go_on(self, watched: Watched) -> bool:
        """Whether to look at more of the files of a process that has many.

        Only if a table is mapped into its memory, if it has paid for that with CPU time, and as far as that
        goes in one poll: the rest is for the next.

        :raises ReadError: it has not paid.
        """
        if not self.may_read(watched.hangs, "memory", watched.dir):
            return False
        if not watched.dir.maps_table():
            watched.tables.stop_searching()
            return False
        stat = parse_stat(watched.dir.read("stat", "stat"))
        used_ns = (stat.user_ticks + stat.system_ticks) * NS_PER_TICK
        if watched.searched * _FILE_NS > used_ns + _FREE_NS:
            detail = (
                f"its table is not among the first {watched.searched + FILES} files that are open"
            )
            raise ReadError("fd", "too_many", detail)
        if self._files_left <= 0:
            watched.looked_clock_ns = -1  # go on in the next poll, whether it runs or not
            return False
        self._files_left -= FILES
        watched.searched += FILES
        return True

    def _cgroup(self, watched: Watched) -> Cgroup | None:
        if not self._needs & {"systemd_unit", "container"}:
            return None
        return parse_cgroup(watched.dir.read("cgroup", "cgroup"))


def _no_memory(process: ProcessDir) -> bool:
    """Whether a process has no memory, where its command line would be; an empty title can be one as well."""
    return process.read("statm", "statm").startswith(b"0 ")
