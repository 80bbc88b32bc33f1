"""Derives what the running daemons lack, compared with what the asking process can see. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Final

from threadwatch.discovery.discovery import most_watched
from threadwatch.doctor.findings import Daemon, Finding
from threadwatch.doctor.missing import Extent, Missing, processes
from threadwatch.doctor.reasons import Remedy
from threadwatch.doctor.situation import Situation, lacking, user_name
from threadwatch.doctor.ways import BOTH, EVERYBODY, capabilities, more_files
from threadwatch.words.wording import count

SENT_AGAIN: Final = (
    "A table is sent once, when it is made, to the socket that is there then: a process sends another one "
    "after a restart, for a fork, or by threadwatch.unpublish() and publish()."
)
"""How a daemon gets the table of a process that was there before it."""


def of_daemons(
    situation: Situation, findings: Sequence[Finding], daemons: Sequence[Daemon], extent: Extent
) -> Iterator[Missing]:
    """Yield what the daemons cannot see and we can."""
    return chain(
        _other_users(situation, findings, daemons),
        _yama(situation, findings, daemons),
        _files(daemons, extent),
    )


def _other_users(
    situation: Situation, findings: Sequence[Finding], daemons: Sequence[Daemon]
) -> Iterator[Missing]:
    ours = (situation.credentials.uids[1], situation.lacks)
    for daemon in daemons:
        uid, lacks = daemon.credentials.uids[1], lacking(daemon.credentials)
        others = [f for f in findings if f.uid != uid and f.pid != daemon.pid]
        if lacks and others and (uid, lacks) != ours:
            yield Missing(
                "daemon",
                f"The daemon, PID {daemon.pid} of user {user_name(uid)}, sees less than is shown here. It "
                f"lacks {', '.join(c for c in BOTH if c in lacks)}, and there are other users' processes."
                f"{_handed(daemon, others)}",
                (daemon.pid,),
                _ways(situation, daemon, BOTH),
            )


def _handed(daemon: Daemon, others: Sequence[Finding]) -> str:
    """Return which of these processes have handed their tables over to the daemon, and which have not."""
    published = [finding for finding in others if finding.table == "found"]
    if daemon.tables is None or not published:
        return ""
    has = [finding for finding in published if daemon.pid in finding.held_by]
    lacks = [finding for finding in published if daemon.pid not in finding.held_by]
    text = f" It has the names of {processes(has)}, handed over to its socket." if has else ""
    if lacks:
        text += f" It has not the table of {processes(lacks)}. {SENT_AGAIN}"
    return text


def _yama(
    situation: Situation, findings: Sequence[Finding], daemons: Sequence[Daemon]
) -> Iterator[Missing]:
    ours = (situation.credentials.uids[1], situation.lacks)
    for daemon in daemons:
        uid, lacks = daemon.credentials.uids[1], lacking(daemon.credentials)
        own = [f for f in findings if f.uid == uid and f.pid != daemon.pid]
        if (
            own
            and situation.ptrace_scope in (1, 2)
            and "CAP_SYS_PTRACE" in lacks
            and (uid, lacks) != ours
        ):
            yield Missing(
                "daemon-yama",
                f"The daemon, PID {daemon.pid}, does not see why threads of {processes(own)} wait, nor which "
                f"one holds the GIL, although they are of its own user, {user_name(uid)}: "
                f"Yama's ptrace_scope is {situation.ptrace_scope}, and it lacks CAP_SYS_PTRACE.",
                (daemon.pid,),
                (*_ways(situation, daemon, ("CAP_SYS_PTRACE",)), EVERYBODY),
            )


def _files(daemons: Sequence[Daemon], extent: Extent) -> Iterator[Missing]:
    for daemon in daemons:
        if daemon.most_files is None:
            continue
        most = most_watched(daemon.most_files)
        if most < extent.watched:
            yield Missing(
                "daemon-files",
                f"The daemon, PID {daemon.pid}, watches {count(most, 'process', 'processes')} at most, and "
                f"there are {extent.watched}: it may open {daemon.most_files} files, and each process takes "
                "two.",
                (daemon.pid,),
                more_files(),
            )


def _ways(situation: Situation, daemon: Daemon, needed: Sequence[str]) -> tuple[Remedy, ...]:
    """Return ways to give a daemon these capabilities besides those that it has."""
    its = replace(situation, credentials=daemon.credentials)
    return tuple(way for way in capabilities(its, needed) if way.where != "by hand")
