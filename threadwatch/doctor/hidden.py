"""Says what permission hides, and how to grant it. Pure: from findings to sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from threadwatch.doctor.findings import Cause, Finding
from threadwatch.doctor.missing import Extent, Missing, listed, processes
from threadwatch.doctor.reasons import Remedy
from threadwatch.doctor.situation import Situation, user_name
from threadwatch.doctor.ways import BOTH, beside, capabilities, capabilities_for, ways_for
from threadwatch.words.text import printable
from threadwatch.words.wording import count


def hidden_processes(
    situation: Situation, findings: Sequence[Finding], extent: Extent
) -> Iterator[Missing]:
    """Yield what hides whole processes."""
    if not extent.everything:
        return
    if situation.is_hidden_from:
        listed = (
            f" {count(extent.unreadable, 'process is', 'processes are')} listed, but cannot be read."
            if extent.unreadable
            else ""
        )
        yield Missing(
            "hidepid",
            f"Other users' processes, because {situation.procfs} is mounted with "
            f"hidepid={situation.hidepid}.{listed} CAP_SYS_PTRACE sees through that.",
            ways=(
                *capabilities(situation, BOTH),
                Remedy("for all users", (f"mount -o remount,hidepid=0 {situation.procfs}",)),
            ),
        )
    elif not findings and not situation.host_pids:
        yield Missing(
            "pid-namespace",
            "No Python process can be seen, because this is a PID namespace of its own (a container's).",
            ways=(
                Remedy(situation.engine, (f"{situation.engine} run --pid=host …",)),
                Remedy("Kubernetes", ("hostPID: true",)),
            ),
        )


_WHY: dict[Cause, str] = {
    "other user": "",  # as _whose() says
    "not dumpable": "not dumpable, because of a change of user or prctl(PR_SET_DUMPABLE)",
    "more privileges": "with capabilities that this process does not have",
    "yama": "may be looked at, but not traced: Yama's ptrace_scope is {scope}",
    "refused": "refused by the kernel, although neither user nor capabilities stand in the way",
}


def hidden(situation: Situation, findings: Sequence[Finding]) -> Iterator[Missing]:
    """Yield what permission hides of processes, by its cause."""
    for cause, why in _WHY.items():
        found = [finding for finding in findings if finding.cause == cause]
        if found:
            whose = why.format(scope=situation.ptrace_scope) or _whose(situation, found)
            same = {(finding.uid, finding.gid) for finding in found}
            cheap = beside(situation, same) if cause == "other user" else ()
            yield Missing(
                cause.replace(" ", "-"),
                f"{processes(found)}, {whose}. Hidden: {', '.join(_hidden_things(found)) or 'the program'}."
                f"{_needs(situation, cause)}",
                tuple(finding.pid for finding in found),
                (*cheap, *ways_for(situation, cause)),
            )


def _whose(situation: Situation, found: Sequence[Finding]) -> str:
    """Return whose processes are hidden; those of our own user are because of their group."""
    own = situation.credentials
    others = sorted({user_name(finding.uid) for finding in found if finding.uid != own.uids[1]})
    if others:
        return f"of other users ({listed(others)})"
    groups = sorted({finding.gid for finding in found if finding.gid not in (None, own.gids[1])})
    if groups:
        return (
            f"of this user, but of another group ({listed([*map(str, groups)])}) than this process, whose "
            f"group is {own.gids[1]}"
        )
    return "of this user, but with another real or saved user or group than this process"


def _hidden_things(findings: Sequence[Finding]) -> Iterator[str]:
    if any("hidden" in (finding.names, finding.not_read) for finding in findings):
        yield "thread names"
    if any(finding.states == "hidden" for finding in findings):
        yield "why threads wait"
    if any(finding.memory == "hidden" for finding in findings):
        yield "which thread holds the GIL"


def _needs(situation: Situation, cause: Cause) -> str:
    scope = situation.ptrace_scope
    if cause == "yama" and scope == 3:
        return " That holds for all users until the machine restarts."
    if cause == "refused":
        if not situation.host_users:
            return " The capabilities of this process count only in its own user namespace."
        label = printable(situation.label or "none that can be seen")
        return f" A security module can do that; this process's label by one: {label}."
    text = f" Missing: {', '.join(c for c in capabilities_for(cause) if c in situation.lacks)}."
    if scope == 3:
        text += " With it, Yama's ptrace_scope of 3 still hides all but the names."
    return text
