"""Turns a view into rows, ordered and filtered: group → process → thread → task, or one list of threads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from threadwatch.model.keys import ThreadKey
from threadwatch.model.loops import TaskView
from threadwatch.model.view import ProcessView, ThreadView
from threadwatch.top.figures import Figures, figures_of, figures_of_task, sum_of
from threadwatch.top.order import SORTS, Sort, sort_key
from threadwatch.words.text import printable
from threadwatch.words.wording import (
    busiest_tasks,
    command,
    count,
    loop_held,
    percent,
    tasks_alive,
    thread_name,
)

RowKey = tuple[object, ...]
"""Identifies a row from poll to poll."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the list."""

    key: RowKey
    kind: Literal["group", "process", "thread", "task"]
    depth: int
    name: str
    """Printable."""
    figures: Figures | ThreadView
    threads: tuple[ThreadKey, ...]
    """The threads that the row stands for; of a task, its thread."""
    process: ProcessView | None = None
    """None for a group."""
    thread: ThreadView | None = None
    group: str = ""
    """Printable."""
    note: str = ""
    """A remark behind its name, dimmed."""
    opened: bool | None = None
    """Whether the rows below it are shown; None: there are none."""

    @property
    def timed(self) -> tuple[ThreadKey, ...]:
        """Return the threads whose time its bar shows: none for a task."""
        return () if self.kind == "task" else self.threads


@dataclass(frozen=True, slots=True)
class Shape:
    """The user's choice of rows."""

    sort: Sort = SORTS[0]
    reverse: bool = False
    flat: bool = False
    """All threads in one list."""
    busy: bool = False
    """Hide threads that neither run nor wait to run."""
    words: tuple[str, ...] = ()
    """The filter: a thread is shown if one of these words, in lower case, occurs in its description."""
    closed: frozenset[RowKey] = frozenset()


def parse_filter(text: str) -> tuple[str, ...]:
    """Return the words of a filter: ``a|B`` → ``("a", "b")``."""
    return tuple(word for part in text.split("|") if (word := part.strip().lower()))


def rows(processes: Sequence[ProcessView], shape: Shape) -> list[Row]:
    """Return the lines of the list."""
    order = sort_key(shape.sort, reverse=shape.reverse)
    if shape.flat:
        parents = {process.key.pid: process for process in processes}
        found = [
            _thread_row(process, thread, 0, note=printable(process.group))
            for process in processes
            for thread in _shown(process, shape, parents)
        ]
        found.sort(key=lambda row: order(row.figures))
        return found
    return list(_tree(processes, shape, order))


def _tree(
    processes: Sequence[ProcessView],
    shape: Shape,
    order: Callable[[Figures | ThreadView], tuple[object, ...]],
) -> Iterable[Row]:
    parents = {process.key.pid: process for process in processes}
    sizes = Counter(process.group for process in processes)  # hidden processes count, too
    families: dict[str, list[tuple[ProcessView, list[ThreadView], Figures]]] = {}
    for process in processes:
        threads = _shown(process, shape, parents)
        if threads or not (shape.words or shape.busy):
            families.setdefault(process.group, []).append((process, threads, figures_of(process)))
    groups = [(name, members, sum_of(m[2] for m in members)) for name, members in families.items()]
    groups.sort(key=lambda entry: (order(entry[2]), entry[0]))
    for name, members, figures in groups:
        shown = printable(name)
        together = sizes[name] > 1
        if together:
            key: RowKey = ("group", name)
            opened = key not in shape.closed or bool(shape.words)
            number = sum(len(process.threads) for process, _, _ in members)
            yield Row(
                key,
                "group",
                0,
                shown,
                figures,
                tuple(
                    (process.key, thread.tid, thread.start_ticks)
                    for process, threads, _ in members
                    for thread in threads
                ),
                group=shown,
                note=count(len(members), "process", "processes")
                + ", "
                + count(number, "thread", "threads"),
                opened=opened,
            )
            if not opened:
                continue
        depth = int(together)
        members.sort(key=lambda entry: order(entry[2]))
        for process, threads, its in members:
            key = ("process", process.key)
            opened = key not in shape.closed or bool(shape.words)
            text = _command(process, parents)
            yield Row(
                key,
                "process",
                depth,
                text if depth else shown,
                its,
                tuple((process.key, thread.tid, thread.start_ticks) for thread in threads),
                process=process,
                group=shown,
                note="" if depth else text,
                opened=opened if threads else None,
            )
            if opened:
                threads.sort(key=order)
                for thread in threads:
                    yield from _with_tasks(process, thread, depth + 1, shape)


def _with_tasks(
    process: ProcessView, thread: ThreadView, depth: int, shape: Shape
) -> Iterable[Row]:
    """Yield the row of a thread, and those of the tasks of its loop."""
    row = _thread_row(process, thread, depth, note=_loop_note(thread))
    tasks = busiest_tasks(thread)
    if not tasks:
        yield row
        return
    opened = row.key not in shape.closed or bool(shape.words)
    yield replace(row, opened=opened)
    if opened:
        for task in tasks:
            yield Row(
                (*row.key, task.name),
                "task",
                depth + 1,
                printable(task.name),
                figures_of_task(task, thread),
                row.threads,
                process=process,
                group=process.group,
                note=_task_note(task),
            )


def _loop_note(thread: ThreadView) -> str:
    """Return what is known of a thread's loop: how often it is held, how late it was, and what waits."""
    loop, held = thread.loop, loop_held(thread)
    if loop is None:
        return ""
    parts = [] if held is None else [f"loop held {percent(held)} %"]
    if loop.age_ns:
        parts.append(f"{loop.age_ns / 1e6:.0f} ms late")
    if loop.ready:
        parts.append(f"{loop.ready} ready")
    return ", ".join(parts)


def _task_note(task: TaskView) -> str:
    parts = [f"held {percent(task.held_ratio)} %"] if task.held_ratio else []
    alive = tasks_alive(task)
    return ", ".join([*parts, alive] if alive else parts)


def _thread_row(process: ProcessView, thread: ThreadView, depth: int, note: str = "") -> Row:
    identity = (process.key, thread.tid, thread.start_ticks)
    return Row(
        ("thread", *identity),
        "thread",
        depth,
        thread_name(thread),
        thread,
        (identity,),
        process=process,
        thread=thread,
        group=process.group,
        note=note,
    )


def _command(process: ProcessView, processes: Mapping[int, ProcessView]) -> str:
    parent = processes.get(process.ppid)
    return command(process, parent if parent and parent.group == process.group else None)


def _shown(
    process: ProcessView, shape: Shape, processes: Mapping[int, ProcessView]
) -> list[ThreadView]:
    """Return the process's threads that the filter lets through."""
    threads: Iterable[ThreadView] = process.threads
    if shape.busy:
        threads = filter(is_busy, threads)
    words = shape.words
    if words:
        whole = f"{process.key.pid} {process.group} {_command(process, processes)}".lower()
        if not any(word in whole for word in words):
            threads = [thread for thread in threads if _fits(thread, words)]
    return list(threads)


def _fits(thread: ThreadView, words: Sequence[str]) -> bool:
    tasks = " ".join(task.name for task in thread.loop.tasks) if thread.loop else ""
    text = f"{thread.tid} {thread_name(thread)} {thread.comm} {thread.state} {tasks}".lower()
    return any(word in text for word in words)


def is_busy(thread: ThreadView) -> bool:
    """Return whether the thread runs, or waits for a CPU or the GIL, by the one decimal that is shown."""
    least = 0.0005
    return (
        thread.state in ("running", "runnable", "gil")
        or (thread.cpu_ratio or 0.0) >= least
        or (thread.gil_wait_ratio or 0.0) >= least
        or (thread.runqueue_ratio or 0.0) >= least
    )
