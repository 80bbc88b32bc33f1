"""Selects processes by the PIDs and application names on the command line."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Sequence
from typing import NamedTuple

from threadwatch.errors import Unusable
from threadwatch.model.view import ProcessView, View
from threadwatch.words.text import printable


class Candidate(NamedTuple):
    """A process that can be chosen."""

    pid: int
    ppid: int
    group: str


def choose(view: View, what: Sequence[str], command: str) -> tuple[ProcessView, ...]:
    """Return the processes that any word of ``what`` names, and those that they started.

    :raises Unusable: a word names no process; the message begins with ``command``.
    """
    if not what:
        return view.processes
    chosen = choose_pids(
        [Candidate(p.key.pid, p.ppid, p.group) for p in view.processes], what, command
    )
    return tuple(p for p in view.processes if p.key.pid in chosen)


def choose_pids(
    candidates: Collection[Candidate], what: Sequence[str], command: str, hint: str = ""
) -> set[int]:
    """Return the PIDs of processes that any word of ``what`` names, and of those that they started.

    :raises Unusable: a word names none; the message begins with ``command`` and ends with ``hint``.
    """
    chosen: set[int] = set()
    for word in what:
        found = {one.pid for one in candidates if _is_meant(word, one)}
        if not found and word.isdecimal():
            raise Unusable(f"{command}: there is no process {word}, or it cannot be seen{hint}")
        if not found:
            groups = ", ".join(sorted({printable(one.group) for one in candidates})) or "none"
            raise Unusable(
                f"{command}: no application is called {word!r}; there are: {groups}{hint}"
            )
        chosen |= found
    while more := {one.pid for one in candidates if one.ppid in chosen} - chosen:
        chosen |= more
    return chosen


def _is_meant(word: str, candidate: Candidate) -> bool:
    if word.isdecimal():
        return candidate.pid == int(word)
    # In a container it is called APPLICATION@CONTAINER.
    names = candidate.group, candidate.group.rpartition("@")[0]
    return any(fnmatch.fnmatchcase(name, word) for name in names if name)
