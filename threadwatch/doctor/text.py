"""Writes the text of ``threadwatch doctor``: situation, processes, what is missing. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from threadwatch.doctor.findings import Daemon, Finding
from threadwatch.doctor.folding import Folding
from threadwatch.doctor.missing import Missing
from threadwatch.doctor.situation import CAPABILITIES, Situation, lacking, user_name
from threadwatch.procfs.credentials import Credentials
from threadwatch.words.style import Style
from threadwatch.words.text import cut, pad, printable, width

_MOST_NAME: Final = 32
_MANY: Final = 20
"""From this number of processes on, those that look the same share a line."""
_LABEL: Final = 15

_TITLES: Final = (
    *("PID", "USER", "APPLICATION", "INTERPRETER"),
    *("PUBLISHES", "GIL", "NAMES FROM", "LOOPS", "STATES", "MEMORY"),
)
_RIGHT: Final = frozenset({"PID"})
_BAD: Final = frozenset({"hidden", "no", "not found", "malformed", "other layout"})
_TABLE: Final = {"found": "yes", "none": "no", "hidden": "?", "closed": "closed"}
_NO_LOOPS: Final = {
    None: "none",
    "off": "off",
    "hidden": "hidden",
    "unsupported": "?",
    "failed": "?",
}
_GIL: Final = {"unknown": "?"}


def text(
    situation: Situation,
    daemons: Sequence[Daemon],
    findings: Sequence[Finding],
    missing: Sequence[Missing],
    notes: Sequence[str],
    foldings: Sequence[Folding],
    style: Style,
) -> Iterator[str]:
    """Yield the lines of the report."""
    yield style.bold("THIS PROCESS")
    for label, value in _situation(situation, daemons):
        yield from _labelled(label, value, style)
    yield ""
    yield from _processes(findings, style)
    for note in notes:
        yield ""
        yield from _wrapped(f"Note: {note}", "", style)
    for folding in foldings:
        yield ""
        yield from _wrapped(f"Note: {folding.text}", "", style)
        yield ""
        yield from folding.proposal.lines()
    yield ""
    if not missing:
        yield style.good("Nothing is missing.")
        return
    yield style.bold("WHAT IS MISSING, AND HOW TO GET IT")
    for number, one in enumerate(missing, 1):
        yield ""
        yield from _wrapped(f"{number}. {one.text}", "   ", style)
        same = next((n for n, m in enumerate(missing[: number - 1], 1) if m.ways == one.ways), 0)
        if same and one.ways:
            yield f"     as for {same}"
            continue
        for way in one.ways:
            for index, line in enumerate(way.lines):
                yield f"     {pad('' if index else way.where, _LABEL)}  {line}"


def _situation(situation: Situation, daemons: Sequence[Daemon]) -> Iterator[tuple[str, str]]:
    yield "user", user(situation.credentials.uids[1])
    yield "capabilities", _capabilities(situation.credentials)
    if not situation.host_users:
        yield "", "only within a user namespace of its own"
    options = ", mounted " + ",".join(situation.options) if situation.options else ""
    yield "procfs", printable(situation.procfs + options)
    yield (
        "",
        f"hidepid={situation.hidepid}, "
        + ("processes only (subset=pid)" if situation.only_pids else "all of it (no subset=pid)"),
    )
    yield (
        "CPU time",
        "exact (schedstat)" if situation.schedstat else "in ticks of 10 ms (no schedstat)",
    )
    yield "Yama", _yama(situation)
    if situation.label is not None:
        yield "security label", printable(situation.label)
    soft, hard = situation.file_limit
    yield (
        "open files",
        f"{soft} at most; serve raises that to {hard}" if soft < hard else f"{soft} at most",
    )
    yield "PID namespace", "the host's" if situation.host_pids else "a container's"
    yield (
        "machine",
        f"{situation.machine}: why threads wait is "
        + ("known" if situation.wait_reasons else "not known"),
    )
    for daemon in daemons:
        uid = daemon.credentials.uids[1]
        yield "daemon", f"PID {daemon.pid}, user {user(uid)}, {_capabilities(daemon.credentials)}"


def user(uid: int) -> str:
    """Return a user's name and number: ``nobody (65534)``."""
    name = user_name(uid)
    return name if name == str(uid) else f"{printable(name)} ({uid})"


def _capabilities(credentials: Credentials) -> str:
    lacks = lacking(credentials)
    return ", ".join(
        f"no {name}"
        if name in lacks
        else name
        if credentials.effective & bit
        else f"{name} (by CAP_DAC_OVERRIDE)"
        for name, bit in CAPABILITIES.items()
    )


def _yama(situation: Situation) -> str:
    scope = situation.ptrace_scope
    if scope is None:
        return "cannot be seen" if situation.only_pids else "not in force"
    meaning = {
        0: "a user may trace what is its own",
        1: "only parents may trace, or CAP_SYS_PTRACE",
        2: "only CAP_SYS_PTRACE may trace",
        3: "no process may trace",
    }
    return f"ptrace_scope {scope}" + (f": {meaning[scope]}" if scope in meaning else "")


def _processes(findings: Sequence[Finding], style: Style) -> Iterator[str]:
    published = sum(finding.table == "found" for finding in findings)
    unknown = sum(finding.table == "hidden" for finding in findings)
    counts = [f"{published} of {len(findings)} publish"]
    if unknown:
        counts.append(f"{unknown} cannot be told")
    if not findings:
        yield style.bold("PROCESSES")
        yield "  No Python process can be seen."
        return
    yield style.bold("PROCESSES") + "   " + ", ".join(counts)
    rows = _rows(findings)
    folded = len(rows) < len(findings)
    titles = (*_TITLES, "PROCESSES") if folded else _TITLES
    cells = [(*row, str(count)) if folded else row for row, count in rows]
    widths = [max(width(row[i]) for row in (titles, *cells)) for i in range(len(titles))]
    yield (
        "  "
        + "  ".join(
            pad(title, size, right=title in _RIGHT)
            for title, size in zip(titles, widths, strict=True)
        ).rstrip()
    )
    for row in cells:
        padded = [
            pad(cell, size, right=title in _RIGHT)
            for title, cell, size in zip(titles, row, widths, strict=True)
        ]
        padded[-1] = padded[-1].rstrip()
        yield "  " + "  ".join(
            style.bad(text) if index > 3 and cell in _BAD else text
            for index, (text, cell) in enumerate(zip(padded, row, strict=True))
        )


def _rows(findings: Sequence[Finding]) -> list[tuple[tuple[str, ...], int]]:
    """Return the cells of each line and the number of its processes; its PID is that of the first."""
    rows = [_cells(finding) for finding in findings]
    if len(rows) < _MANY:
        return [(row, 1) for row in rows]
    alike: dict[tuple[str, ...], list[str]] = {}
    for pid, *rest in rows:
        alike.setdefault(tuple(rest), []).append(pid)
    return [((pids[0], *rest), len(pids)) for rest, pids in alike.items()]


def _cells(finding: Finding) -> tuple[str, ...]:
    return (
        str(finding.pid),
        printable(user_name(finding.uid)),
        cut(printable(finding.application), _MOST_NAME),
        cut(printable(finding.interpreter), _MOST_NAME),
        _TABLE.get(finding.table, finding.table),
        _GIL.get(finding.gil, finding.gil),
        _names(finding),
        ", ".join(finding.loops.kinds) or _NO_LOOPS[finding.loops.why_none],
        finding.states,
        finding.memory,
    )


def _names(finding: Finding) -> str:
    if finding.source == "memory":
        return "memory"
    if finding.names == "yes":
        return "table"
    return finding.names if finding.names == "hidden" else "kernel"


def _labelled(label: str, value: str, style: Style) -> Iterator[str]:
    indent = " " * (_LABEL + 4)
    lines = textwrap.wrap(value, style.text_columns - len(indent), break_on_hyphens=False) or [""]
    for index, line in enumerate(lines):
        yield f"  {pad('' if index else label, _LABEL)}  {line}"


def _wrapped(paragraph: str, indent: str, style: Style) -> Iterator[str]:
    yield from textwrap.wrap(
        paragraph,
        style.text_columns,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
