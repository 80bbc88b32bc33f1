"""Derives what is missing, and how to grant it. Pure: from findings to sentences.

Rules:

* Only findings are mentioned, and only ways that work from here: no sudo for root, no systemd unit
in a container.
* A restriction that cannot be lifted from here and costs little is a note, and not missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from threadwatch.doctor.daemons import SENT_AGAIN, of_daemons
from threadwatch.doctor.findings import Daemon, Finding, NotRead
from threadwatch.doctor.hidden import hidden, hidden_processes
from threadwatch.doctor.missing import Extent, Missing, listed, processes
from threadwatch.doctor.reasons import Reason, Remedy
from threadwatch.doctor.situation import Situation
from threadwatch.doctor.ways import more_files
from threadwatch.publisher.layout import CAPACITY
from threadwatch.words.text import printable
from threadwatch.words.wording import count


def missing(
    situation: Situation,
    findings: Sequence[Finding],
    daemons: Sequence[Daemon],
    extent: Extent,
) -> tuple[Missing, ...]:
    """Return what is missing, the worst first. Empty: all is as it should be."""
    return tuple(
        chain(
            hidden_processes(situation, findings, extent),
            hidden(situation, findings),
            of_daemons(situation, findings, daemons, extent),
            _files(situation, extent),
            _unpublished(findings),
            _full(findings),
            _unreadable(findings),
            _gil(findings),
        )
    )


def notes(
    situation: Situation, findings: Sequence[Finding], daemons: Sequence[Daemon], extent: Extent
) -> tuple[str, ...]:
    """Return notes: facts that are good to know and need no action."""
    found = []
    if not situation.schedstat:
        found.append(
            "This kernel keeps no schedstat (CONFIG_SCHED_INFO): CPU time is counted in ticks of 10 ms, "
            "and there is no run-queue wait."
        )
    if not situation.same_namespace:
        found.append(
            f"{situation.procfs} shows another PID namespace: CPU time is counted in ticks of 10 ms there."
        )
    if not situation.wait_reasons:
        found.append(
            f"The system calls of {situation.machine} are not known: threads that wait are shown as "
            "sleeping, without a reason. On x86_64 and aarch64 they have one."
        )
    if situation.only_pids:
        found.append(
            "subset=pid hides /proc/loadavg and /proc/sys: each poll lists all processes, which costs a "
            "little more, and Yama's ptrace_scope cannot be seen."
        )
    if situation.hidepid != "off" and not situation.is_hidden_from:
        found.append(f"hidepid={situation.hidepid} hides nothing from this process.")
    found += _nameless(findings)
    found += _handed_over(findings, daemons)
    found += _loops(findings)
    if any(
        finding.reason is not None and finding.reason.kind != "no-python" for finding in findings
    ):
        found.append(_ONLY_PUBLISHED)
    if extent.unknown and not situation.is_hidden_from:
        found.append(
            f"The program of {count(extent.unknown, 'other process', 'other processes')} is hidden. Python "
            "under a name of its own could be among them."
        )
    if findings and extent.everything and not situation.host_pids and situation.same_namespace:
        found.append(
            "Processes outside of this container cannot be seen. To see those of the host, start it with "
            "docker run --pid=host, or with hostPID: true in Kubernetes."
        )
    return tuple(found)


def _files(situation: Situation, extent: Extent) -> Iterator[Missing]:
    if extent.left_out:
        yield Missing(
            "file-descriptors",
            f"{count(extent.left_out, 'process', 'processes')} could not be watched: the hard limit of "
            f"file descriptors is {situation.file_limit[1]}, and each process takes two.",
            ways=(*more_files(), Remedy("shell", ("ulimit -n 65536",))),
        )


_ONLY_PUBLISHED = (
    "What only a process that publishes shows, however well its memory can be read: the names of threads "
    "that start and end between two polls (else their CPU time is (unattributed)), and the CPU time of each "
    "thread to its very end."
)
_READ = " Names are read from memory."
_UNREAD: dict[NotRead | None, str] = {
    "forbidden": " The configuration does not let names be read from memory (names.from_memory: false).",
    "hidden": " Names cannot be read from memory, which is hidden.",
    "failed": " Names cannot be read from memory, for the reason that is given below.",
    None: "",
}
_KERNELS = (
    " So threads have the kernel's names (from CPython 3.14 on, Python's names cut to 15 bytes), and which "
    "ones wait for the GIL is unknown."
)


def _unpublished(findings: Sequence[Finding]) -> Iterator[Missing]:
    by_reason: dict[Reason, list[Finding]] = {}
    for finding in findings:
        if finding.reason is not None:
            by_reason.setdefault(finding.reason, []).append(finding)
    told = False
    for reason, found in by_reason.items():
        text = f"{processes(found)}: threads not published. {reason.why}."
        text += _names_of(found)
        if any(finding.source == "comm" for finding in found) and not told:
            text += _KERNELS
            told = True
        if any(way.where == "or by" for way in reason.ways):
            text += (
                " THREADWATCH=1 needs prometheus-threadwatch in the application's own environment."
            )
        yield Missing(reason.kind, text, tuple(finding.pid for finding in found), reason.ways)


def _names_of(found: Sequence[Finding]) -> str:
    """Return where the names of these processes' threads come from, and why not from a better source."""
    by_text: dict[str, list[Finding]] = {}
    for finding in found:
        text = _READ if finding.source == "memory" else _UNREAD[finding.not_read]
        by_text.setdefault(text, []).append(finding)
    if len(by_text) == 1:
        return next(iter(by_text))
    return "".join(
        f" PID {listed([finding.pid for finding in ones])}: {text[1].lower()}{text[2:]}"
        for text, ones in by_text.items()
        if text
    )


def _handed_over(findings: Sequence[Finding], daemons: Sequence[Daemon]) -> Iterator[str]:
    sent = [finding for finding in findings if finding.handed_over]
    for daemon in daemons:
        if has := [finding for finding in sent if daemon.pid in finding.held_by]:
            yield (
                f"{processes(has)}: handed over. The daemon, PID {daemon.pid}, has the names of threads from "
                "the table that was sent to its socket, and needs no capability for them."
            )
    lost = [finding for finding in sent if not finding.held_by]
    if lost and all(daemon.tables is not None for daemon in daemons):
        yield (
            f"{processes(lost)}: handed over, to a daemon that does not run any more, or cannot be seen. "
            f"{SENT_AGAIN}"
        )


_NAMELESS: dict[str, str] = {
    "native": "started by C code, and unknown to Python.",
    "older": "started before publishing began, and not by the module threading.",
    "unread": "a table is read as far as its process has used CPU time, and the rest is to come.",
}
"""Why threads of a publishing process have no name in Python, by the words of
:func:`threadwatch.doctor.threads.nameless`."""


def _nameless(findings: Sequence[Finding]) -> Iterator[str]:
    for why, text in _NAMELESS.items():
        if found := [finding for finding in findings if finding.nameless.get(why)]:
            threads = sum(finding.nameless[why] for finding in found)
            yield (
                f"{processes(found)}: {count(threads, 'thread has', 'threads have')} the kernel's name: "
                f"{text}"
            )


def _loops(findings: Sequence[Finding]) -> Iterator[str]:
    if off := [finding for finding in findings if finding.loops.why_none == "off"]:
        yield (
            f"{processes(off)}: the configuration has no loops looked at (tasks.rate or waits.rate is 0)."
        )
    for detail in sorted({finding.loops.detail for finding in findings} - {""}):
        about = [finding for finding in findings if finding.loops.detail == detail]
        yield f"{processes(about)}: the daemon sees no tasks: {printable(detail)}."


def _full(findings: Sequence[Finding]) -> Iterator[Missing]:
    if found := [finding for finding in findings if finding.nameless.get("full")]:
        threads = sum(finding.nameless["full"] for finding in found)
        yield Missing(
            "table-full",
            f"{processes(found)}: {count(threads, 'thread has', 'threads have')} the kernel's name: a "
            f"table has room for {CAPACITY:,} threads.",
            tuple(finding.pid for finding in found),
        )


def _unreadable(findings: Sequence[Finding]) -> Iterator[Missing]:
    other = [f for f in findings if f.table == "other layout"]
    if other:
        yield Missing(
            "other-layout",
            f"{processes(other)}: published by another version ({other[0].detail}). Install the same "
            "version of threadwatch there and here, and start it again.",
            tuple(finding.pid for finding in other),
        )
    broken = [f for f in findings if f.detail and f.table != "other layout"]
    for detail in sorted({finding.detail for finding in broken}):
        about = [finding for finding in broken if finding.detail == detail]
        yield Missing(
            "unreadable",
            f"{processes(about)}: not everything can be read: {printable(detail)}.",
            tuple(finding.pid for finding in about),
        )


def _gil(findings: Sequence[Finding]) -> Iterator[Missing]:
    found = [f for f in findings if f.gil == "not found"]
    if found:
        yield Missing(
            "gil-not-found",
            f"{processes(found)}: the publisher has not found the GIL, so threads that wait for it are "
            "shown as waiting for a lock. The interpreter is built in a way that threadwatch does not know.",
            tuple(finding.pid for finding in found),
        )
