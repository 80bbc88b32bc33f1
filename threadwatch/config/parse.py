"""Parses the configuration: YAML text to frozen values, or one line that says what is wrong and where."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from string import Formatter
from types import MappingProxyType
from typing import Final

from threadwatch.config.defaults import DEFAULT_CONFIG, DEFAULT_RULES
from threadwatch.config.document import document, read
from threadwatch.config.settings import (
    Config,
    GroupConfig,
    NameRule,
    TaskNamesBy,
    TasksConfig,
    ThreadsConfig,
)
from threadwatch.config.value import Value, listed
from threadwatch.model.keys import OTHER, UNATTRIBUTED, Per

_MILLISECOND: Final = 1_000_000
_SECOND: Final = 1_000_000_000
# Tables keep ended threads for table.RETAIN_NS: at a longer poll interval, ends would be missed.
_POLL_INTERVAL: Final = (100_000_000, 30 * _SECOND)
_EXPIRE_AFTER: Final = (_SECOND, 365 * 86400 * _SECOND)
_CAP: Final = (1, 100_000)
_WAIT_RATE: Final = (0, 100)
_BLOCKED_AFTER: Final = (_MILLISECOND, 60 * _SECOND)
_TASK_NAMES_BY: Final[Mapping[str, TaskNamesBy]] = {
    "coroutine": "coroutine",
    "function": "function",
}
_PER: Final[Mapping[str, Per]] = {"group": "group", "process": "process", "thread": "thread"}
_UNMATCHED: Final = {"watch": True, "ignore": False}
_SOCKETS: Final[Mapping[str, str | None]] = {"auto": "", "off": None}
_LONGEST_SOCKET: Final = 107
"""Bytes of a path in struct sockaddr_un, without the zero at its end: unix(7)."""
_COLLECT: Final = {source: source for source in ("context_switches", "io")}
_TEMPLATE_LENGTH: Final = 100

_TASKS_KEYS: Final = ("rate", "by", "blocked_after")
_THREADS_KEYS: Final = ("cap", "per", "fold", "rules")
_MATCH_KEYS: Final = (
    "exe",
    "cmdline",
    "comm",
    "user",
    "systemd_unit",
    "container",
    "container_name",
    "pod_uid",
)
SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "": (
        "poll_interval",
        "expire_after",
        "thread_info",
        "unmatched",
        "publish_socket",
        "collect",
        "waits",
        "names",
        "tasks",
        "threads",
        "groups",
    ),
    "waits": ("rate",),
    "tasks": _TASKS_KEYS,
    "names": ("from_memory",),
    "threads": _THREADS_KEYS,
    "threads.rules[]": ("match", "name"),
    "groups[]": ("name", "match", "threads", "collect", "waits", "names", "tasks", "expire_after"),
    "groups[].match": _MATCH_KEYS,
    "groups[].waits": ("rate",),
    "groups[].names": ("from_memory",),
    "groups[].tasks": _TASKS_KEYS,
    "groups[].threads": _THREADS_KEYS,
    "groups[].threads.rules[]": ("match", "name"),
}
"""Every key that a configuration can have, by section."""

GROUP_FIELDS: Final = ("app", "comm", "exe", "user")
"""The fields that the name of a group can use, besides the captures of its own matchers."""
PLACE_FIELDS: Final = ("container", "container_name", "pod_uid", "unit")
"""More of them. A capture of the same name takes the field's place."""


@dataclass(frozen=True, slots=True)
class _Threads:
    """The section ``threads``, before a group's own settings override those of the top level."""

    cap: int = DEFAULT_CONFIG.default.threads.cap
    per: Per = DEFAULT_CONFIG.default.threads.per
    fold: bool = True
    rules: tuple[NameRule, ...] = ()

    def config(self) -> ThreadsConfig:
        rules = self.rules + DEFAULT_RULES if self.fold else self.rules
        return ThreadsConfig(rules=rules, cap=self.cap, per=self.per)


def load_config(path: str | None) -> Config:
    """Read a configuration file; None: there is none. Raises :class:`ConfigError`."""
    if path is None:
        return DEFAULT_CONFIG
    return parse_config(read(path, "--config.file"), path)


def parse_config(data: bytes, path: str) -> Config:
    """Return the configuration in a file's bytes. ``path`` is for messages. Raises :class:`ConfigError`."""
    top = document(data, path).mapping(SECTIONS[""])
    default, poll_interval_ns = DEFAULT_CONFIG.default, DEFAULT_CONFIG.poll_interval_ns
    watch_unmatched, thread_info = DEFAULT_CONFIG.watch_unmatched, DEFAULT_CONFIG.thread_info
    if value := top.get("poll_interval"):
        poll_interval_ns = value.duration_ns(*_POLL_INTERVAL)
    if value := top.get("thread_info"):
        thread_info = value.boolean()
    if value := top.get("unmatched"):
        watch_unmatched = value.choice(_UNMATCHED)
    publish_socket = DEFAULT_CONFIG.publish_socket
    if value := top.get("publish_socket"):
        publish_socket = _publish_socket(value)
    threads = _threads(top, _Threads())
    default = _shared(top, replace(default, threads=threads.config()))
    groups: dict[str, tuple[int, GroupConfig]] = {}
    for value in top["groups"].items() if "groups" in top else ():
        group = _group(value, default, threads)
        if group.name in groups:
            first = groups[group.name][0]
            value.fail(
                f"duplicate group {group.name} (first on line {first}): "
                "give it another name, or put both into one pattern"
            )
        groups[group.name] = (value.line, group)
    return Config(
        poll_interval_ns=poll_interval_ns,
        groups=tuple(group for _, group in groups.values()),
        default=default,
        watch_unmatched=watch_unmatched,
        thread_info=thread_info,
        publish_socket=publish_socket,
        path=path,
    )


def _publish_socket(value: Value) -> str | None:
    """Return the path of a Unix socket; None for ``off``, empty for ``auto``."""
    text = value.text("a path")
    if text in _SOCKETS:
        return _SOCKETS[text]
    if not text.startswith("/") or text.endswith("/"):
        value.fail("should be the absolute path of a socket, or auto or off")
    if len(os.fsencode(text)) > _LONGEST_SOCKET:
        value.fail(f"should be at most {_LONGEST_SOCKET} bytes long, as the paths of sockets are")
    return text


def _group(value: Value, default: GroupConfig, threads: _Threads) -> GroupConfig:
    entries = value.mapping(SECTIONS["groups[]"])
    if "match" not in entries:
        value.fail(f"has no match: add one, with one or more of {listed(_MATCH_KEYS)}")
    if "name" not in entries:
        value.fail("has no name: add one")
    matchers = entries["match"].mapping(_MATCH_KEYS)
    if not matchers:
        entries["match"].fail(f"matches nothing: add one or more of {listed(_MATCH_KEYS)}")
    matches: dict[str, re.Pattern[str]] = {}
    captures: dict[str, str] = {}
    for key, matcher in matchers.items():
        matches[key] = matcher.pattern()
        for capture in matches[key].groupindex:
            if capture in GROUP_FIELDS:
                matcher.fail(
                    f"the capture {capture} hides the field {{{capture}}}: call it otherwise"
                )
            if capture in captures:
                matcher.fail(f"the capture {capture} is in {captures[capture]} too: rename one")
            captures[capture] = key
    group = replace(
        default,
        name=_template(entries["name"], dict.fromkeys((*GROUP_FIELDS, *PLACE_FIELDS, *captures))),
        matches=MappingProxyType(matches),
        threads=_threads(entries, threads).config(),
    )
    return _shared(entries, group)


def _shared(entries: Mapping[str, Value], group: GroupConfig) -> GroupConfig:
    """Return ``group`` with the settings that may stand both at the top level and in a group."""
    if value := entries.get("expire_after"):
        group = replace(group, expire_after_ns=value.duration_ns(*_EXPIRE_AFTER))
    if value := entries.get("collect"):
        collect: set[str] = set()
        for item in value.items():
            source = item.choice(_COLLECT)
            if source in collect:
                item.fail(f"{source} is listed twice: remove one")
            collect.add(source)
        group = replace(group, collect=frozenset(collect))
    if value := entries.get("waits"):
        section = value.mapping(SECTIONS["waits"])
        if rate := section.get("rate"):
            group = replace(group, wait_rate=rate.whole(*_WAIT_RATE))
    if value := entries.get("names"):
        section = value.mapping(SECTIONS["names"])
        if from_memory := section.get("from_memory"):
            group = replace(group, names_from_memory=from_memory.boolean())
    if value := entries.get("tasks"):
        group = replace(group, tasks=_tasks(value, group.tasks))
    return group


def _tasks(value: Value, tasks: TasksConfig) -> TasksConfig:
    """Return ``tasks`` with the section of that name applied."""
    section = value.mapping(_TASKS_KEYS)
    if rate := section.get("rate"):
        tasks = replace(tasks, rate=rate.whole(*_WAIT_RATE))
    if by := section.get("by"):
        tasks = replace(tasks, by=by.choice(_TASK_NAMES_BY))
    if blocked_after := section.get("blocked_after"):
        tasks = replace(tasks, blocked_after_ns=blocked_after.duration_ns(*_BLOCKED_AFTER))
    return tasks


def _threads(entries: Mapping[str, Value], threads: _Threads) -> _Threads:
    """Return ``threads`` with the section of that name applied: its rules come before the present ones."""
    if "threads" not in entries:
        return threads
    section = entries["threads"].mapping(_THREADS_KEYS)
    if value := section.get("cap"):
        threads = replace(threads, cap=value.whole(*_CAP))
    if value := section.get("per"):
        threads = replace(threads, per=value.choice(_PER))
    if value := section.get("fold"):
        threads = replace(threads, fold=value.boolean())
    if value := section.get("rules"):
        rules = tuple(_name_rule(item) for item in value.items())
        threads = replace(threads, rules=rules + threads.rules)
    return threads


def _name_rule(value: Value) -> NameRule:
    entries = value.mapping(SECTIONS["threads.rules[]"])
    for key in SECTIONS["threads.rules[]"]:
        if key not in entries:
            value.fail(f"has no {key}: a rule has a match and a name")
    match = entries["match"].pattern()
    name = _template(entries["name"], tuple(match.groupindex))
    return NameRule(match, name)


def _template(value: Value, fields: Collection[str]) -> str:
    text = value.text("a name")
    if len(text) > _TEMPLATE_LENGTH:
        value.fail(f"should be at most {_TEMPLATE_LENGTH} characters long, not {len(text)}")
    if not text.isprintable() or text != text.strip():
        value.fail("should be on one line, and not begin or end with a blank")
    if text in {OTHER, UNATTRIBUTED}:
        value.fail(f"{text} is a name of threadwatch's own: take another one")
    there = listed([f"{{{name}}}" for name in fields]) if fields else "none, for want of captures"
    try:
        parts = list(Formatter().parse(text))
    except ValueError:
        value.fail("a { or } stands alone: write {{ or }} for the character itself")
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if form or conversion:
            value.fail(f"should be {{{name}}} without anything behind the name")
        if name not in fields:
            value.fail(f"unknown field {{{name}}}: there is {there}")
    return text
