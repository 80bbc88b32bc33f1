"""Writes the text of the detail screen: one thread, in full."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

from threadwatch.model.closeup import Examined
from threadwatch.model.keys import TICKS_PER_SECOND, Source
from threadwatch.model.states import NAMES
from threadwatch.model.view import ProcessView, ThreadView
from threadwatch.top.bars import BUSY, LETTERS, MEANINGS, divide, letters
from threadwatch.top.columns import Span
from threadwatch.top.history import Shares
from threadwatch.words.text import cut, pad, printable
from threadwatch.words.wording import age, command, count, duration, percent, thread_name, version

Line = list[Span]

SOURCES: dict[Source, str] = {
    "published": "published by its process",
    "memory": "read from its process's memory",
    "comm": "no Python name is known: this is the kernel's comm",
}
ASK_FOR_STACK = "s: py-spy reads it, and stops the process for some milliseconds"
_CHART = 8
"""Lines of the chart."""
_LABEL = 14
"""Width of the column of labels."""


def detail(
    process: ProcessView,
    thread: ThreadView,
    line: Sequence[tuple[float, Shares]],
    more: Examined | str,
    stack: Sequence[str],
    *,
    gone: bool,
    started: float,
    uptime: float,
    columns: int,
) -> list[Line]:
    """Return the lines.

    ``line``: the thread's history, poll by poll; ``more``: what ``examine`` has read; ``stack``: the lines of
    its Python stack. ``started``: a Unix time; ``uptime``: seconds since boot.
    """
    name = thread_name(thread)
    lines: list[Line] = [
        [
            Span(cut(name, max(columns - 30, 20)), "title"),
            Span("   has ended" if gone else "", "alarm"),
        ],
        [],
        _entry(
            "name",
            SOURCES[thread.source],
        ),
        _entry("comm", printable(thread.comm)),
        _entry("TID", f"{thread.tid}   in PID {process.key.pid}"),
        _entry("application", printable(process.group)),
        _entry("process", cut(command(process, None), max(columns - _LABEL - 4, 10))),
        _entry("Python", version(process.python) if process.python else "not known"),
        _entry("series", printable(thread.thread)),
    ]
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(started))
    ago = age(uptime - thread.start_ticks / TICKS_PER_SECOND)
    lines.append(_entry("started", f"{since}   {ago} ago"))
    used = thread.user_ns + thread.system_ns
    lines.append(
        _entry(
            "CPU time",
            f"{duration(used / 1e9)}   user {duration(thread.user_ns / 1e9)}, "
            f"system {duration(thread.system_ns / 1e9)}",
        )
    )
    lines.append(
        [
            *_entry("now", thread.state, f"state-{thread.state}"),
            Span(f": {MEANINGS.get(thread.state, '')}"),
        ]
    )
    lines.append([*_entry("last poll", ""), *_shares(thread)])
    lines += _more(more, thread, columns)
    room = max(columns - _LABEL - 4, 10)
    lines += (
        _entry("" if number else "Python stack", cut(one, room)) for number, one in enumerate(stack)
    )
    lines += ([], *_history(line, columns))
    return lines


def _shares(thread: ThreadView) -> Line:
    parts: Line = []
    for title, ratio in (
        ("CPU", thread.cpu_ratio),
        ("GIL held", thread.gil_held_ratio),
        ("GIL wait", thread.gil_wait_ratio),
        ("ready", thread.runqueue_ratio),
    ):
        if ratio is not None:
            parts.append(Span(f"{'   ' if parts else ''}{title} ", "dim"))
            parts.append(Span(f"{percent(ratio)} %", "figure"))
    return parts


def _more(more: Examined | str, thread: ThreadView, columns: int) -> list[Line]:
    if isinstance(more, str):
        return [_entry("kernel", more)]
    switches = ""
    if more.voluntary_switches is not None and more.involuntary_switches is not None:
        switches = (
            f"{more.voluntary_switches:,} to wait, "
            f"{more.involuntary_switches:,} because its CPU was taken"
        )
    lines = [
        _entry("CPUs", f"may use {more.cpus}, last on {thread.last_cpu}"),
        *([_entry("switches", switches)] if switches else []),
        _entry("system call", cut(more.syscall + more.arguments, max(columns - _LABEL - 4, 10))),
        _entry("waits in", more.wchan),
    ]
    if more.stack_note:
        lines.append(_entry("kernel stack", more.stack_note))
    lines += (
        _entry("" if number else "kernel stack", frame) for number, frame in enumerate(more.stack)
    )
    return lines


def _history(line: Sequence[tuple[float, Shares]], columns: int) -> list[Line]:
    """Return a chart: one column for each poll, the newest on the right; and shares over the whole of it."""
    room = max(columns - 4, 10)
    line = [entry for entry in line if entry[1]][-room:]
    seconds = sum(elapsed for elapsed, _ in line)
    lines: list[Line] = [
        [
            Span("Where its time went", "title"),
            Span(f"   {count(len(line), 'poll', 'polls')}, {age(seconds)}", "dim"),
        ]
    ]
    if not line:
        return [*lines, [Span("  not known yet", "dim")]]
    stacks = [_stack(shares) for _, shares in line]
    for height in range(_CHART - 1, -1, -1):
        spans = [Span("  ")]
        for stack in stacks:
            state = stack[height] if height < len(stack) else ""
            text = (LETTERS[state] if state in BUSY else "·") if state else " "
            style = f"chart-{state}" if state else ""
            if spans[-1].style == style:
                spans[-1] = Span(spans[-1].text + text, style)
            else:
                spans.append(Span(text, style))
        lines.append(spans)
    parts: defaultdict[str, float] = defaultdict(float)
    for elapsed, shares in line:
        for state, part in shares.items():
            parts[state] += part * elapsed / seconds
    lines.append([])
    lines += (
        [
            Span("  "),
            Span(letters(state, 4), f"bar-{state}"),
            Span(f"  {pad(state, 9)}", f"state-{state}"),
            Span(pad(f"{percent(parts[state])} %", 8, right=True), "figure"),
            Span(f"   {MEANINGS[state]}", "dim"),
        ]
        for state in sorted(NAMES, key=lambda state: -parts.get(state, 0.0))
        if parts.get(state, 0.0) >= 0.0005
    )
    return lines


def _stack(shares: Shares) -> list[str]:
    """Return the states of one column, from the bottom upwards."""
    return [state for state, number in divide(shares, _CHART) for _ in range(number)]


def _entry(label: str, text: str, style: str = "") -> Line:
    return [Span(f"  {pad(label, _LABEL)}", "dim"), Span(text, style)]
