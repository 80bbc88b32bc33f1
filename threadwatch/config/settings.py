"""Defines the settings of a configuration: frozen values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from threadwatch.config.value import format_duration
from threadwatch.model.keys import Per

TaskNamesBy = Literal["coroutine", "function"]
"""What a task without a name of its own is called after: its coroutine, or the outermost function of the
application that it is in."""


@dataclass(frozen=True, slots=True)
class NameRule:
    """Folds every thread name that ``match`` matches in full into the name that ``name`` expands to."""

    match: re.Pattern[str]
    name: str
    """A template over the named captures of :attr:`match`: ``{pool}-N``."""


@dataclass(frozen=True, slots=True)
class ThreadsConfig:
    """The rules by which the threads of a group become series."""

    rules: tuple[NameRule, ...]
    """The configured rules, then the default ones unless they are switched off."""
    cap: int
    """Thread names per group that get series of their own; the rest goes to ``(other)``."""
    per: Per


@dataclass(frozen=True, slots=True)
class TasksConfig:
    """The way in which the tasks of a thread's loop are looked at."""

    rate: int = 10
    """Looks per second, at most as many as samples of waits; 0: none are taken."""
    by: TaskNamesBy = "coroutine"
    blocked_after_ns: int = 100_000_000
    """A loop that has not come back to its selector for longer than this is blocked."""


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """The rules by which processes share series, and by which their series are made."""

    name: str
    """A template over :data:`GROUP_FIELDS`, :data:`PLACE_FIELDS` and the matchers' named captures:
    ``shop-{worker}``."""
    matches: Mapping[str, re.Pattern[str]]
    """exe, cmdline, comm, user, systemd_unit, container, container_name, pod_uid → a pattern; all
    must match."""
    threads: ThreadsConfig
    collect: frozenset[str]
    """Costly sources that are read as well: ``context_switches``, ``io``."""
    expire_after_ns: int
    """How long the group's series are shown after the end of its last process."""
    wait_rate: int = 10
    """Samples per second of the threads' waits; 0: none are taken."""
    names_from_memory: bool = True
    """Whether the names of threads are read from a process's memory if it has no table."""
    tasks: TasksConfig = TasksConfig()


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration."""

    poll_interval_ns: int
    groups: tuple[GroupConfig, ...]
    default: GroupConfig
    """The settings of processes that no group matches; its name is the application's."""
    watch_unmatched: bool
    """Whether Python processes that no group matches are watched at all."""
    thread_info: bool
    publish_socket: str | None = ""
    """The Unix socket at which processes hand their tables over; None: there is none; empty: the default
    one, if its directory is there."""
    path: str = field(default="", compare=False)
    """The file that it was read from; empty for the defaults. Two equal configurations can differ in it."""


def describe_config(config: Config) -> str:
    """Return the configuration in one line for ``threadwatch check-config``."""
    count = len(config.groups)
    groups = f"{count or 'no'} group{'' if count == 1 else 's'}"
    ignored = "" if config.watch_unmatched else ", other processes are ignored"
    interval = format_duration(config.poll_interval_ns)
    return f"{config.path or 'defaults'}: ok, {groups}, poll every {interval}{ignored}"


def sampled_often(config: Config, rate: int) -> Config:
    """Return the configuration with ``rate`` samples per second wherever samples are taken at all."""

    def often(group: GroupConfig) -> GroupConfig:
        tasks = replace(group.tasks, rate=rate) if group.tasks.rate else group.tasks
        return replace(group, wait_rate=rate, tasks=tasks) if group.wait_rate else group

    return replace(config, default=often(config.default), groups=tuple(map(often, config.groups)))
