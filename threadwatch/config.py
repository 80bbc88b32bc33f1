"""The configuration: YAML text to frozen values, or one line that says what is wrong and where."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from threadwatch.model import Per


@dataclass(frozen=True, slots=True)
class NameRule:
    """Folds every thread name that ``match`` matches in full into the name that ``name`` expands to."""

    match: re.Pattern[str]
    name: str


@dataclass(frozen=True, slots=True)
class ThreadsConfig:
    rules: tuple[NameRule, ...]
    """The configured rules, then the default ones unless they are switched off."""
    cap: int
    """Thread names per group that get series of their own; the rest goes to ``(other)``."""
    per: Per


@dataclass(frozen=True, slots=True)
class GroupConfig:
    name: str
    """A template over the matchers' named captures: ``shop-{worker}``."""
    matches: Mapping[str, re.Pattern[str]]
    """exe, cmdline, comm, user, systemd_unit, container → a pattern; all must match."""
    threads: ThreadsConfig
    collect: frozenset[str]
    expire_after_ns: int


@dataclass(frozen=True, slots=True)
class Config:
    poll_interval_ns: int
    groups: tuple[GroupConfig, ...]
    default: GroupConfig
    """What applies to processes that no group matches; its name is the application's."""
    watch_unmatched: bool
    """Whether Python processes that no group matches are watched at all."""
    thread_info: bool
