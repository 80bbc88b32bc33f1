"""Selects processes by the PIDs and application names on the command line."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import replace

from threadwatch.config.parse import Config, GroupConfig
from threadwatch.errors import Unusable
from threadwatch.model.view import ProcessView, View
from threadwatch.words.text import printable


def sampled_often(config: Config, rate: int) -> Config:
    """Return the configuration with ``rate`` samples per second wherever samples are taken at all."""

    def often(group: GroupConfig) -> GroupConfig:
        return replace(group, wait_rate=rate) if group.wait_rate else group

    return replace(config, default=often(config.default), groups=tuple(map(often, config.groups)))


def choose(view: View, what: Sequence[str], command: str) -> tuple[ProcessView, ...]:
    """Return the processes that any word of ``what`` names, and those that they started.

    :raises Unusable: a word names no process; the message begins with ``command``.
    """
    if not what:
        return view.processes
    chosen: set[int] = set()
    for word in what:
        found = {p.key.pid for p in view.processes if _is_meant(word, p)}
        if not found and word.isdecimal():
            raise Unusable(f"{command}: there is no process {word}, or it cannot be seen")
        if not found:
            groups = ", ".join(sorted({printable(p.group) for p in view.processes})) or "none"
            raise Unusable(f"{command}: no application is called {word!r}; there are: {groups}")
        chosen |= found
    while more := {
        p.key.pid for p in view.processes if p.ppid in chosen and p.key.pid not in chosen
    }:
        chosen |= more
    return tuple(p for p in view.processes if p.key.pid in chosen)


def _is_meant(word: str, process: ProcessView) -> bool:
    if word.isdecimal():
        return process.key.pid == int(word)
    return fnmatch.fnmatchcase(process.group, word)
