"""Chooses the group of a process by the configuration, from what the chooser reads of the process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from threadwatch.config.settings import Config
from threadwatch.discovery.looks import Looks
from threadwatch.discovery.programs import Programs
from threadwatch.discovery.user_names import UserNames
from threadwatch.errors import Denied, Gone, Malformed, ReadError
from threadwatch.labels.groups import (
    CGROUP_MATCHERS,
    ProcessFacts,
    choose_group,
    config_needs,
    is_multiprocessing_child,
    is_python,
    is_unpacked_pex,
)
from threadwatch.model.keys import NOWHERE, Place
from threadwatch.names.slots import TableHeader
from threadwatch.procfs import Cgroup, parse_cgroup
from threadwatch.procfs.environ import parse_environ
from threadwatch.procfs.own import read_own
from threadwatch.targets.process import Membership, Process

_ANCESTORS = 16
"""How many generations back the maker of a table is searched for."""


class GroupChooser:
    """Chooses by a configuration."""

    def __init__(
        self,
        config: Config,
        watched: Mapping[int, Process],
        may_read_memory: Callable[[Process], bool],
        errors: list[ReadError],
    ) -> None:
        """``watched``: by PID, kept up to date by the caller; parents are looked up there.

        ``may_read_memory``: whether to read in a process what can wait for the lock of its memory.
        """
        self._watched = watched
        self._may_read_memory = may_read_memory
        self._errors = errors
        self._programs = Programs()
        self._users = UserNames()
        self._own_container = parse_cgroup(read_own("cgroup")).container
        self.use(config)

    def use(self, config: Config) -> None:
        """Choose by another configuration from now on."""
        self._config = config
        self._needs = config_needs(config)
        self._users.doubt()

    def renamed_users(self) -> set[int]:
        """Return the users whose names have changed since processes were judged by them."""
        if "user" not in self._needs:
            return set()
        self._users.refresh()
        return self._users.take_news()

    def exe(self, watched: Process) -> str | None:
        """Return the path of a process's program, where that may be read."""
        try:
            return watched.dir.exe()
        except Denied as error:
            # The programs of most of a host's processes are hidden from us. The error is counted for
            # Python ones alone.
            if is_python(None, watched.facts.cmdline, watched.facts.comm):
                self._errors.append(error)
            return None

    def choose(
        self, watched: Process, looks: Looks, exe: str | None, *, python: bool, asked_for: bool
    ) -> Membership | None:
        """Return the group that a process belongs to by the configuration; None: it is not to be watched.

        ``exe``: what :meth:`exe` returns. ``python``: the process runs Python, as its program or command
        line says. ``asked_for``: it is watched, whatever it runs.
        """
        facts = watched.facts
        child_of = None
        inherited = None if watched.tables.known else watched.tables.inherited
        if inherited is not None or is_multiprocessing_child(facts.cmdline):
            child_of = self._watched.get(facts.ppid)
            if inherited is not None:
                child_of = self._maker_of(inherited, child_of)
            if child_of is None and watched.membership.group:
                return watched.membership  # an orphan stays in its group
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
        cgroup = cgroup or self._cgroup(watched, wanted=True)
        return Membership(chosen[1], chosen[0], _place(cgroup), cgroup.cpu if cgroup else None)

    def _has_python(self, watched: Process, looks: Looks, exe: str | None) -> bool:
        """Return whether there is a Python in a process whose program is called otherwise."""
        if exe is None:
            return False
        if looks.embeds != exe:
            looks.found(None)
            if self._may_read_memory(watched):
                looks.found(exe if self._programs.has_python(watched.dir) else None)
        return looks.embeds is not None

    def _maker_of(self, header: TableHeader, parent: Process | None) -> Process | None:
        """Return the process among the parent and its ancestors that made a table; None if not watched."""
        for _ in range(_ANCESTORS):
            if parent is None or header.names(parent.ns_pid, parent.key.start_ticks):
                return parent
            parent = self._watched.get(parent.facts.ppid)
        return None

    def _pex(self, watched: Process) -> str | None:
        """Return the file of an unpacked PEX, where the process's environment may be read."""
        if not is_unpacked_pex(watched.facts.cmdline) or not self._may_read_memory(watched):
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
        """Return a user's name; for a process in another container the number: it has another name there."""
        return str(uid) if apart else self._users.name(uid)

    def _is_apart(self, cgroup: Cgroup) -> bool:
        """Return whether a process is in a container, and that is not our own."""
        return cgroup.container is not None and cgroup.container != self._own_container


def _place(cgroup: Cgroup | None) -> Place:
    if cgroup is None:
        return NOWHERE
    return Place(cgroup.container or "", cgroup.pod_uid or "", cgroup.systemd_unit or "")
