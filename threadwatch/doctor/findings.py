"""Holds what can be seen of a process, and why the rest is hidden. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from threadwatch.doctor.reasons import Reason
from threadwatch.doctor.situation import Situation
from threadwatch.model.keys import Source
from threadwatch.model.loops import LoopKind
from threadwatch.procfs.credentials import Credentials

Access = Literal["yes", "hidden", "no"]
"""``yes``: it can be read; ``hidden``: permission hides it; ``no``: there is nothing to read."""

TableState = Literal[
    "found", "none", "hidden", "malformed", "other layout", "another's", "closed", "unfinished"
]
"""The state of a process's thread table. ``another's``: it holds only those of other processes."""

UNPUBLISHED: Final = frozenset({"none", "closed", "another's", "unfinished"})
"""The states of a table that mean that threads are not published: then there is a reason."""

NotRead = Literal["forbidden", "hidden", "failed"]
"""Why names are not read from a process's memory. ``forbidden``: by the configuration; ``hidden``: by the
kernel; ``failed``: no Python that is known is found in it."""

NoLoops = Literal["off", "hidden", "unsupported", "failed"]
"""Why the loops of a process are not seen. ``off``: by the configuration; ``hidden``: by the kernel;
``unsupported``: by this Python, or none is known; ``failed``: a library's loops are not as they are known."""

GilState = Literal["found", "free-threaded", "not found", "unknown"]

Cause = Literal["other user", "not dumpable", "more privileges", "yama", "refused"]
"""Why permission hides something: see :func:`cause_of`."""

_ATTACH = frozenset({"syscall", "mem"})
"""Files that need the right to trace a process, and not only to look at it (PTRACE_MODE_ATTACH in
fs/proc)."""


class LoopsFound(NamedTuple):
    """The loops that threads of a process run."""

    kinds: tuple[LoopKind, ...] = ()
    why_none: NoLoops | None = None
    """None: some run, or none does, as far as can be seen."""
    detail: str = ""
    """The same in the words of the error."""


_NO_LOOPS = LoopsFound()


@dataclass(frozen=True, slots=True)
class Finding:
    """The findings about one process."""

    pid: int
    uid: int
    application: str
    cmdline: tuple[str, ...]
    interpreter: str
    """``CPython 3.12.1`` as published; or else the program's name."""
    table: TableState
    gil: GilState
    names: Access
    states: Access
    """Access to states with their reasons; the states alone are visible to all users."""
    memory: Access
    """Access to the memory, which shows the holder of the GIL."""
    cause: Cause | None
    """Why something is hidden; None: nothing is."""
    detail: str
    """Any other problem, in the words of the error."""
    reason: Reason | None = None
    """Why it does not publish; None: it does, or that is hidden or malformed."""
    nameless: Mapping[str, int] = field(default_factory=dict)
    """How many of its threads have no Python name although it publishes, by reason
    (:func:`threadwatch.doctor.threads.nameless`)."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """By the name of each of its threads, the name of the series that it has."""
    gid: int | None = None
    """Its effective group, of a process of which something is hidden."""
    source: Source = "comm"
    """Where the daemon has its threads' names from, with the same configuration and rights."""
    not_read: NotRead | None = None
    """Why that is not its memory; None: it is, or the process publishes."""
    loops: LoopsFound = _NO_LOOPS
    handed_over: bool = False
    """Whether it has sent its table to a daemon's socket."""
    held_by: tuple[int, ...] = ()
    """The PIDs of the daemons that have its table, found or received."""

    @property
    def publishes(self) -> bool | None:
        """Return whether it publishes; None: that is hidden."""
        return None if self.table == "hidden" else self.table == "found"


@dataclass(frozen=True, slots=True)
class Daemon:
    """A process that runs ``threadwatch serve``."""

    pid: int
    credentials: Credentials
    most_files: int | None = None
    """The limit of its open files; None: unlimited, or unreadable."""
    tables: frozenset[int] | None = None
    """The inodes of the tables that it has, found or received; None: they cannot be seen."""


def cause_of(
    situation: Situation, target: Credentials, *, files_owner: int | None, denied: Collection[str]
) -> Cause:
    """Return why the kernel refuses to show ``denied``, by __ptrace_may_access() (kernel/ptrace.c).

    - ``other user``: not all of the target's user and group ids are ours.
    - ``not dumpable``: it has changed its user, or is otherwise marked (PR_SET_DUMPABLE in
      prctl(2)).
    - ``more privileges``: it has capabilities that we lack (cap_ptrace_access_check()).
    - ``yama``: it may be looked at, but not traced.
    - ``refused``: none of these. A security module or a user namespace remains.
    """
    ours = situation.credentials
    only_tracing = _ATTACH.issuperset(denied)
    if only_tracing and situation.ptrace_scope == 3:
        return "yama"
    if not situation.lacks:
        return "refused"
    same_user = set(target.uids[:3]) == {ours.uids[1]} and set(target.gids[:3]) == {ours.gids[1]}
    if not same_user:
        return "other user"
    if files_owner not in (None, ours.uids[1]):
        return "not dumpable"
    if only_tracing and situation.ptrace_scope and "CAP_SYS_PTRACE" in situation.lacks:
        return "yama"
    if target.permitted & ~ours.effective:
        return "more privileges"
    # For a process of root, the owner of its files proves nothing.
    return "not dumpable" if ours.uids[1] == 0 and not only_tracing else "refused"
