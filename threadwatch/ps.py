"""``threadwatch ps``: the mapping of kernel threads to Python names, once."""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace

from threadwatch.config import DEFAULT_CONFIG, Config, GroupConfig, load_config
from threadwatch.errors import ReadError, Unusable
from threadwatch.model import ProcessView, View
from threadwatch.poller import Poller
from threadwatch.procfs import ProcFS
from threadwatch.report import report
from threadwatch.view_json import process_json

_WAIT_RATE = 50
"""Samples per second of what threads wait for."""


def ps(
    what: Sequence[str],
    *,
    as_json: bool,
    interval: float,
    config_file: str | None,
    procfs: str,
) -> int:
    """Print the processes that ``what`` names by PID or application, or all; the exit code.

    :raises ConfigError: the configuration cannot be used.
    :raises Unusable: there is no procfs, or nothing fits ``what``.
    """
    config = DEFAULT_CONFIG if config_file is None else load_config(config_file)
    errors: list[ReadError] = []
    poller = Poller(ProcFS(procfs), _sampled_often(config), report=errors.append)
    try:
        poller.always_watch(frozenset(int(word) for word in what if word.isdecimal()))
        view = poller.poll()
        if interval > 0:
            poller.sample_for(interval)
            view = poller.poll()
        chosen = choose(view, what)
    finally:
        poller.close()
    if as_json:
        json.dump([process_json(process) for process in chosen], sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        terminal = sys.stdout.isatty()
        columns = shutil.get_terminal_size().columns if terminal else None
        color = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        for line in report(chosen, columns=columns, color=color):
            print(line)
        if not chosen:
            print("No Python process can be seen.")
    _say_what_is_hidden(chosen, errors)
    return 0


def _sampled_often(config: Config) -> Config:
    """The configuration for one look: what is sampled at all is sampled often."""

    def often(group: GroupConfig) -> GroupConfig:
        return replace(group, wait_rate=_WAIT_RATE) if group.wait_rate else group

    return replace(config, default=often(config.default), groups=tuple(map(often, config.groups)))


def choose(view: View, what: Sequence[str]) -> tuple[ProcessView, ...]:
    """The processes that any word of ``what`` names, and those that they started.

    :raises Unusable: a word names none.
    """
    if not what:
        return view.processes
    chosen: set[int] = set()
    for word in what:
        found = {p.key.pid for p in view.processes if _is_meant(word, p)}
        if not found and word.isdecimal():
            raise Unusable(f"ps: there is no process {word}, or it cannot be seen")
        if not found:
            groups = ", ".join(sorted({p.group for p in view.processes})) or "none"
            raise Unusable(f"ps: no application is called {word!r}; there are: {groups}")
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


def _say_what_is_hidden(chosen: Sequence[ProcessView], errors: Sequence[ReadError]) -> None:
    denied = {error.source for error in errors if error.reason == "denied"}
    if denied & {"fd", "table"} and any(not process.published for process in chosen):
        print(
            "threadwatch: the thread names of other users' processes are hidden; run as root, or with "
            "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
            file=sys.stderr,
        )
