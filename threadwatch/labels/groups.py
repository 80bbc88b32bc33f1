"""Chooses the names of series: of the thread, by name rules, and of the group, by configuration.

Names come from targets, and a target can make any number of them, of any characters. So results are
kept in a cache of limited size. No name that comes out is long or empty, or one of those that
threadwatch gives itself, such as ``(other)``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from string import Formatter
from typing import Final

from threadwatch.config.defaults import DEFAULT_RULES
from threadwatch.config.settings import Config, GroupConfig, NameRule
from threadwatch.labels.applications import (
    NAME_LENGTH,
    UNKNOWN,
    application_name,
    is_multiprocessing_child,
    is_python,
    is_unpacked_pex,
    tidy,
)
from threadwatch.labels.discretion import without_credentials
from threadwatch.model.keys import OTHER, UNATTRIBUTED
from threadwatch.procfs import Cgroup

__all__ = [
    "CGROUP_MATCHERS",
    "DEFAULT_RULES",
    "UNNAMED",
    "ProcessFacts",
    "ThreadNames",
    "application_name",
    "choose_group",
    "config_needs",
    "is_fixed",
    "is_multiprocessing_child",
    "is_python",
    "is_unpacked_pex",
]

UNNAMED: Final = "(unnamed)"
"""The name of threads and groups without a name."""

_OWN: Final = frozenset((OTHER, UNATTRIBUTED, UNNAMED))
_CACHED_NAMES: Final = 4096
_NAME_LENGTH: Final = 192  # as many characters as a table's NAME_BYTES can hold
_CMDLINE_LENGTH: Final = 4096
_SHORT_ID: Final = 12
"""Digits of a container's id in a name, as the engines show them."""
_CONTAINER_LENGTH: Final = 40
"""Characters of the container in the name of a default group."""
_NONE: Final = "none"
"""The value of a field that a process does not have: it is in no container, for example."""

# runc names its own process so, in the new container's cgroup, until it becomes the application
# (libcontainer/nsenter/nsexec.c).
_RUNTIME = re.compile(r"runc:\[[012]:(?:PARENT|CHILD|INIT)\]")
_HEXADECIMAL = re.compile(r"[0-9a-f]{64}")

CGROUP_MATCHERS: Final = frozenset(("systemd_unit", "container", "container_name", "pod_uid"))
"""What is compared with :attr:`ProcessFacts.cgroup`."""


class ThreadNames:
    """Folds thread names by rules: the first that matches the whole name wins."""

    __slots__ = ("_fold",)

    def __init__(self, rules: Sequence[NameRule]) -> None:
        fixed = tuple(rules)

        @lru_cache(_CACHED_NAMES)
        def fold(name: str) -> str:
            for rule in fixed:
                if match := rule.match.fullmatch(name):
                    name = rule.name.format_map(match.groupdict(default=""))
                    break
            # Lone surrogates cannot be written as UTF-8.
            return name[:_NAME_LENGTH].encode("utf-8", "replace").decode()

        self._fold = fold

    def fold(self, name: str) -> str:
        """Return the name that ``name`` is folded into; ``name`` itself if no rule matches."""
        return self._fold(name)

    def series_name(self, name: str) -> str:
        """Return the ``thread`` label of a thread called ``name``: folded, and :data:`UNNAMED` if empty.

        A thread whose name is one of threadwatch's own gets quotes around it.
        """
        label = self._fold(name)
        return _quoted(label) or UNNAMED


NO_CGROUP: Final = Cgroup()


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """The facts by which groups are chosen. None: unread or unreadable; no matcher matches it."""

    exe: str | None
    """The target of ``/proc/PID/exe``."""
    cmdline: tuple[str, ...]
    comm: str
    user: str | None
    python: bool
    """:func:`is_python`."""
    published: bool
    parent_group: str | None
    """The name of the parent's group if the process is a multiprocessing child of one that is watched."""
    pex: str | None = None
    """The file of an unpacked PEX."""
    cgroup: Cgroup = NO_CGROUP
    """The unit, container and pod."""
    apart: bool = False
    """The process is in a container, and that is not our own."""
    parent_config: GroupConfig | None = None
    """The parent's configured group; None: the configured group of that name, or the default."""


def choose_group(config: Config, facts: ProcessFacts) -> tuple[GroupConfig, str] | None:
    """Return the group of a process, as configured and by its name; None where it is not watched.

    A multiprocessing child is in its parent's group. Any other process is in the first configured
    group whose matchers all match. A process that no group matches is in the default group of its
    application if it is Python, or publishes; if it is in another container than we are, the
    group has that container behind its name (docs/decisions/0036-groups-in-containers.md). A
    container's runtime, until it becomes the application, is in no group.
    """
    if not facts.published and not is_python(facts.exe, (), "") and _RUNTIME.fullmatch(facts.comm):
        return None
    if facts.parent_group is not None:
        same = (group for group in config.groups if group.name == facts.parent_group)
        return facts.parent_config or next(same, config.default), facts.parent_group
    for group in config.groups:
        name = _group_name(group, facts)
        if name is not None:
            return group, name
    if config.watch_unmatched and (facts.python or facts.published):
        name = _group_name(config.default, facts) or UNNAMED
        return config.default, _apart(name, facts.cgroup) if facts.apart else name
    return None


def is_fixed(name: str) -> bool:
    """Return whether a group's configured name is the same for every process."""
    return all(field is None for _, field, _, _ in Formatter().parse(name))


def config_needs(config: Config) -> frozenset[str]:
    """Return the fields of :class:`ProcessFacts` that this configuration uses; others need not be read."""
    needs = {field for group in config.groups for field in group.matches}
    names = [group.name for group in config.groups]
    if config.watch_unmatched:
        names.append(config.default.name)
        needs.add("exe")  # to decide whether it is Python
    fields = {field for name in names for _, field, _, _ in Formatter().parse(name)}
    needs |= {"comm", "exe", "user", "container", "container_name", "pod_uid"} & fields
    needs |= {"systemd_unit"} if "unit" in fields else frozenset()
    if "app" in fields or config.watch_unmatched:
        needs |= {"exe", "cmdline", "comm"}
    return frozenset(needs)


def _group_name(group: GroupConfig, facts: ProcessFacts) -> str | None:
    """Return the name of this group for a process; None if its matchers do not match."""
    cgroup = facts.cgroup
    fields = {
        "container": _short(cgroup.container) if cgroup.container else _NONE,
        "container_name": cgroup.container_name or _NONE,
        "pod_uid": cgroup.pod_uid or _NONE,
        "unit": cgroup.systemd_unit or _NONE,
    }
    for source, pattern in group.matches.items():
        text = _text(source, facts)
        match = None if text is None else pattern.search(text)
        if match is None:
            return None
        fields |= match.groupdict(default="")
    fields["comm"] = facts.comm
    fields["user"] = facts.user or UNKNOWN
    fields["exe"] = (_text("exe", facts) or UNKNOWN).rpartition("/")[2]
    if "{app" in group.name:
        fields["app"] = application_name(
            exe=facts.exe, cmdline=facts.cmdline, comm=facts.comm, pex=facts.pex
        )
    return _quoted(tidy(without_credentials(group.name.format_map(fields)))) or UNNAMED


def _apart(name: str, cgroup: Cgroup) -> str:
    """Return the name of a default group in a container: of at most as many characters as any."""
    container = tidy(_short(cgroup.container or ""))[:_CONTAINER_LENGTH]
    return f"{name[: NAME_LENGTH - 1 - len(container)]}@{container}" if container else name


def _short(container: str) -> str:
    """Return the beginning of an id that is random, and any other whole."""
    return container[:_SHORT_ID] if _HEXADECIMAL.fullmatch(container) else container


def _quoted(name: str) -> str:
    """Return a name that a target chose, in quotes if it is one of threadwatch's own."""
    return f"'{name}'" if name in _OWN else name


def _text(source: str, facts: ProcessFacts) -> str | None:
    match source:
        case "exe":
            return facts.exe and facts.exe.removesuffix(" (deleted)")
        case "cmdline":
            return " ".join(facts.cmdline)[:_CMDLINE_LENGTH] if facts.cmdline else None
        case "comm":
            return facts.comm
        case "user":
            return facts.user
        case "systemd_unit":
            return facts.cgroup.systemd_unit
        case "container_name":
            return facts.cgroup.container_name
        case "pod_uid":
            return facts.cgroup.pod_uid
        case _:
            return facts.cgroup.container
