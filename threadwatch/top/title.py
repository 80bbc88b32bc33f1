"""Writes the lines around the list: host, order, sums and keys."""

from __future__ import annotations

import time
from collections.abc import Sequence

from threadwatch.top.columns import Span
from threadwatch.top.model import Top
from threadwatch.words.text import cut, printable, width
from threadwatch.words.wording import count, percent

Line = list[Span]

KEYS = (
    ("F1", "Help"),
    ("/", "Filter"),
    ("t", "Tree"),
    ("< >", "Sort"),
    ("Space", "Pause"),
    ("Enter", "Detail"),
    ("← →", "Fold"),
    ("i", "Idle"),
    ("q", "Quit"),
)
_KEPT_KEYS = ("q", "F1", "/", "Space", "Enter", "< >", "t", "← →", "i")
"""The keys that stay where there is little room, the most needed first."""


def title(top: Top, *, where: str, trouble: str, interval: float, columns: int) -> Line:
    """Return the first line: the host, and the age of the view."""
    trouble = trouble.removeprefix(f"{where} ")
    left: Line = [Span("threadwatch", "title"), Span(f"  {place(top, where)}", "dim")]
    if top.view is None:
        right: Line = [Span(trouble, "alarm") if trouble else Span("reading …", "dim")]
    else:
        clock = time.strftime("%H:%M:%S", time.localtime(top.view.time))
        if trouble:
            right = [Span(f"{trouble} · as of {clock}", "alarm")]
        elif top.paused:
            right = [Span(" PAUSED ", "paused"), Span(f" at {clock}", "figure")]
        else:
            right = [Span(f"every {interval:g} s  ", "dim"), Span(clock, "figure")]
    return _apart(left, right, columns)


def place(top: Top, where: str) -> str:
    """Return ``where`` views come from; behind a daemon's URL, the name of its host."""
    host = top.view.host.name if top.view and top.view.host else ""
    return printable(where if host in {"", where} else f"{where}  {host}")


def figures(top: Top, *, notes: str, shown: tuple[int, int], columns: int) -> Line:
    """Return the second line: sums, the filter, and which rows (first, last) are visible."""
    if top.view is None:
        return [Span("")]
    summary = top.summary()
    parts: Line = [
        Span(count(summary.processes, "process", "processes"), "figure"),
        Span(", ", "dim"),
        Span(count(summary.threads, "thread", "threads"), "figure"),
    ]
    if summary.processes and summary.published < summary.processes:
        parts.append(Span(f", {summary.published or 'none'} published", "dim"))
    parts += (Span("   CPU ", "dim"), Span(f"{percent(summary.cpu_ratio)} %", "figure"))
    if summary.gil_held_ratio is not None:
        most = f"{percent(summary.gil_held_ratio)} %"
        group = cut(printable(summary.gil_group), 20)
        parts += (Span("   GIL ", "dim"), Span(most, "figure"), Span(f" {group}", "dim"))
    if top.shape.words:
        text = cut(printable(top.filter_text), 24)
        parts += (Span("   filter ", "dim"), Span(text, "filter"))
    if top.shape.busy:
        parts += (Span("   ", "dim"), Span("without idle", "filter"))
    if notes:
        parts.append(Span(f"   {notes}", "warning"))
    first, last = shown
    number = len(top.rows)
    place = f"{first + 1}–{last} of {number}" if last - first < number else ""
    return _apart(parts, [Span(place, "dim")], columns)


def footer(columns: int) -> Line:
    """Return the last line: as many keys as fit."""
    shown = list(KEYS)
    for key in reversed(_KEPT_KEYS):
        if sum(width(k) + width(what) + 3 for k, what in shown) <= columns + 2:
            break
        shown = [entry for entry in shown if entry[0] != key]
    line: Line = []
    for number, (key, what) in enumerate(shown):
        line += (Span("  " if number else ""), Span(key, "key"), Span(f" {what}", "dim"))
    return line


def nothing(top: Top) -> Sequence[str]:
    """Return the lines that stand in the place of rows if there are none."""
    if top.view is None:
        return ()
    if top.shape.words:
        return (f"No thread fits the filter {printable(top.filter_text)}.", "Esc takes it away.")
    if top.shape.busy and top.view.processes:
        return ("Nothing runs.", "i shows idle threads again.")
    if top.what:
        return (f"{', '.join(map(printable, top.what))}: no longer there.", "Waiting for it …")
    return ("No Python process can be seen.", *ALONE[1:])


ALONE = (
    "No other Python process can be seen.",
    "Start one by: threadwatch run -- COMMAND",
    "or see how all of this looks: threadwatch demo",
)


def is_alone(top: Top, own_pid: int | None) -> bool:
    """Return whether top itself is the only process to show."""
    processes = top.view.processes if top.view else ()
    return {process.key.pid for process in processes} == {own_pid}


def _apart(left: Line, right: Line, columns: int) -> Line:
    """Return a line with one part on the left and one on the right; what does not fit is left out."""
    used = sum(width(span.text) for span in right)
    kept: Line = []
    room = columns - used - (2 if used else 0)
    for span in left:
        text = cut(span.text, room) if room > 0 else ""
        if text:
            kept.append(Span(text, span.style))
        room -= width(text)
    gap = columns - used - sum(width(span.text) for span in kept)
    return [*kept, Span(" " * max(gap, 0)), *right]
