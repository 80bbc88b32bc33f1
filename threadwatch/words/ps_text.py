"""Writes the text of ``threadwatch ps``: groups, their processes as a tree, their threads by CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from threadwatch.model.loops import TaskView
from threadwatch.model.view import ProcessView, ThreadView
from threadwatch.words.text import cut, pad, printable, width
from threadwatch.words.wording import (
    busiest_tasks,
    command,
    count,
    duration,
    loop_held,
    percent,
    tasks_alive,
    thread_name,
    version,
)

_MOST_NAME = 60
"""Width of a name where the terminal's width is unknown."""
_LEAST_NAME = 12
"""Width of a name at least."""
_DEEPEST = 2
"""Depth of processes that this width allows for."""
_DEEPEST_INDENT = 8
"""Deepest level with an indent of its own; deeper ones look like this one."""


def _no_text(_: TaskView) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    text: Callable[[ThreadView], str]
    right: bool = True
    task: Callable[[TaskView], str] = _no_text


def _cpu_time(thread: ThreadView) -> str:
    return duration((thread.user_ns + thread.system_ns) / 1e9)


def _lag(thread: ThreadView) -> str:
    """Return how late the thread's loop was at the last look, in milliseconds."""
    age_ns = thread.loop.age_ns if thread.loop else None
    return "" if age_ns is None else f"{age_ns / 1e6:.0f}"


_NAME = _Column("THREAD", thread_name, right=False, task=lambda t: f"└ {printable(t.name)}")
_COLUMNS = (
    _Column("TID", lambda t: str(t.tid)),
    _NAME,
    _Column("COMM", lambda t: printable(t.comm), right=False),
    _Column("STATE", lambda t: t.state, right=False, task=tasks_alive),
    _Column("CPU %", lambda t: percent(t.cpu_ratio), task=lambda t: percent(t.cpu_ratio)),
    _Column("LOOP HELD", lambda t: percent(loop_held(t)), task=lambda t: percent(t.held_ratio)),
    _Column("LAG MS", _lag),
    _Column("GIL HELD", lambda t: percent(t.gil_held_ratio)),
    _Column("GIL WAIT", lambda t: percent(t.gil_wait_ratio)),
    _Column("READY", lambda t: percent(t.runqueue_ratio)),
    _Column("CPU TIME", _cpu_time, task=lambda t: duration(t.cpu_ns / 1e9)),
    _Column("LAST CPU", lambda t: str(t.last_cpu)),
)
_OPTIONAL = {"CPU %", "LOOP HELD", "LAG MS", "GIL HELD", "GIL WAIT", "READY"}
"""Columns that are left out if no thread has a value."""
_DISPENSABLE = ("LAST CPU", "COMM", "CPU TIME", "READY", "LAG MS")
"""Columns that are left out, in this order, where a terminal is too narrow for all."""


def report(processes: Sequence[ProcessView], *, columns: int | None, color: bool) -> Iterator[str]:
    """Yield the lines that show these processes.

    ``columns`` is the terminal's width: names are cut to fit into it. None: no name is cut for
    that.
    """
    threads = [thread for process in processes for thread in process.threads]
    shown = tuple(
        column
        for column in _COLUMNS
        if column.title not in _OPTIONAL or any(map(column.text, threads))
    )
    rows, widths = _table(shown, threads)
    for title in _DISPENSABLE:
        if columns is None or _indent(widths) + _LEAST_NAME <= columns + widths[shown.index(_NAME)]:
            break
        shown = tuple(column for column in shown if column.title != title)
        rows, widths = _table(shown, threads)
    name = shown.index(_NAME)
    room = _MOST_NAME if columns is None else columns - _indent(widths) + widths[name]
    widths[name] = min(widths[name], max(room, _LEAST_NAME))
    by_group = sorted(processes, key=lambda p: (p.group, p.key.pid))
    for number, (group, members) in enumerate(groupby(by_group, key=lambda p: p.group)):
        if number:
            yield ""
        family = list(members)
        yield _bold(_headline(group, family), color=color)
        for depth, process, parent in _tree(family):
            yield ""
            yield _process_line(process, parent, depth)
            indent = "  " * (min(depth, _DEEPEST_INDENT) + 1)
            yield indent + _line([c.title for c in shown], shown, widths)
            for thread in sorted(process.threads, key=_busiest_first):
                for cells in rows[thread]:
                    cells[name] = cut(cells[name], widths[name])
                    yield indent + _line(cells, shown, widths)
    if any(t.source == "comm" for t in rows):
        yield ""
        yield (
            "A name in parentheses is the kernel's comm: no Python name is known of that thread "
            "(threadwatch doctor says why)."
        )


_Rows = dict[ThreadView, list[list[str]]]
"""By thread: the cells of its line, and of those of its tasks."""


def _table(columns: Sequence[_Column], threads: Sequence[ThreadView]) -> tuple[_Rows, list[int]]:
    """Return the cells of each thread and its tasks, and the width that each column needs for them."""
    rows: _Rows = {}
    for thread in threads:
        tasks = busiest_tasks(thread)
        rows[thread] = [
            [column.text(thread) for column in columns],
            *([column.task(task) for column in columns] for task in tasks),
        ]
    widths = [
        max([width(column.title), *(width(row[n]) for lines in rows.values() for row in lines)])
        for n, column in enumerate(columns)
    ]
    return rows, widths


def _indent(widths: Sequence[int]) -> int:
    """Return the width of a line of these columns, at the deepest indent."""
    return sum(widths) + 2 * len(widths) + 2 * _DEEPEST


def _line(cells: Sequence[str], columns: Sequence[_Column], widths: Sequence[int]) -> str:
    padded = (
        pad(text, width, right=column.right)
        for text, column, width in zip(cells, columns, widths, strict=True)
    )
    return "  ".join(padded).rstrip()


def _headline(group: str, family: Sequence[ProcessView]) -> str:
    threads = sum(len(p.threads) for p in family)
    published = sum(p.published for p in family)
    read = sum(p.names_from == "memory" for p in family)
    parts = [
        count(len(family), "process", "processes") + ", " + count(threads, "thread", "threads")
    ]
    versions = sorted({version(p.python) for p in family if p.python})
    if versions:
        parts.insert(0, ", ".join(versions))
    if read == len(family):
        parts.append("names from memory")
    elif published == len(family):
        parts.append("published" if len(family) == 1 else "all published")
    else:
        parts.append(
            "not published" if not published else f"{published} of {len(family)} published"
        )
    return f"{printable(group)}   {' · '.join(parts)}"


def _process_line(process: ProcessView, parent: ProcessView | None, depth: int) -> str:
    cpu = "" if process.cpu_ratio is None else f"   CPU {percent(process.cpu_ratio)} %"
    if process.gil_held_ratio is not None:
        cpu += f"   GIL held {percent(process.gil_held_ratio)} %"
    branch = "  " * min(depth, _DEEPEST_INDENT) + "└ " if depth else ""
    what = cut(command(process, parent), _MOST_NAME)
    return (
        f"  {branch}PID {process.key.pid}   {what}{cpu}   CPU time {duration(process.cpu_ns / 1e9)}"
    )


def _tree(family: Sequence[ProcessView]) -> Iterator[tuple[int, ProcessView, ProcessView | None]]:
    """Yield the processes of a group, each behind its parent, with its depth and that parent."""
    here = {p.key.pid: p for p in family}
    children: dict[int, list[ProcessView]] = {}
    for process in reversed(family):
        children.setdefault(process.ppid, []).append(process)
    left = dict(here)
    # A loop and no recursion: a target can nest its processes as deep as it likes.
    for root in [p for p in family if p.ppid not in here] + list(family):
        stack = [(0, root)]
        while stack:
            depth, process = stack.pop()
            if left.pop(process.key.pid, None) is None:
                continue  # reused PIDs can make a parent of a child
            yield depth, process, here.get(process.ppid) if depth else None
            stack += [(depth + 1, child) for child in children.get(process.key.pid, ())]


def _busiest_first(thread: ThreadView) -> tuple[float, int, int]:
    ratio = round(thread.cpu_ratio or 0.0, 3)
    return -ratio, -(thread.user_ns + thread.system_ns), thread.tid


def _bold(text: str, *, color: bool) -> str:
    return f"\x1b[1m{text}\x1b[0m" if color else text
