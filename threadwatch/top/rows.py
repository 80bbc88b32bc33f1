"""Turns a view into rows, ordered and filtered: group → process → thread → task, or one list of threads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from threadwatch.model.view import ProcessView, ThreadView
from threadwatch.top.figures import Figures, figures_of, sum_of
from threadwatch.top.order import SORTS, Sort, sort_key
from threadwatch.top.row import (
    Entry,
    Member,
    RowKey,
    Rows,
    command_of,
    group_row,
    loop_note,
    process_row,
    task_row,
    thread_entry,
    thread_key,
)
from threadwatch.words.text import printable
from threadwatch.words.wording import busiest_tasks, thread_name


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


def rows(processes: Sequence[ProcessView], shape: Shape) -> Rows:
    """Return the lines of the list."""
    order = sort_key(shape.sort, reverse=shape.reverse)
    if not shape.flat:
        return Rows(list(_tree(processes, shape, order)))
    parents = {process.key.pid: process for process in processes}
    found = [
        (process, thread) for process in processes for thread in _shown(process, shape, parents)
    ]
    found.sort(key=lambda pair: order(pair[1]))
    return Rows(
        [thread_entry(process, thread, 0, printable(process.group)) for process, thread in found]
    )


def _tree(
    processes: Sequence[ProcessView],
    shape: Shape,
    order: Callable[[Figures | ThreadView], tuple[object, ...]],
) -> Iterable[Entry]:
    parents = {process.key.pid: process for process in processes}
    sizes = Counter(process.group for process in processes)  # hidden processes count, too
    families: dict[str, list[Member]] = {}
    for process in processes:
        threads = _shown(process, shape, parents)
        if threads or not (shape.words or shape.busy):
            member = Member(process, threads, figures_of(process))
            families.setdefault(process.group, []).append(member)
    groups = [
        (name, members, sum_of(m.figures for m in members)) for name, members in families.items()
    ]
    groups.sort(key=lambda entry: (order(entry[2]), entry[0]))
    for name, members, figures in groups:
        together = sizes[name] > 1
        if together:
            key: RowKey = ("group", name)
            opened = key not in shape.closed or bool(shape.words)
            yield Entry(key, partial(group_row, key, name, members, figures, opened))
            if not opened:
                continue
        depth = int(together)
        members.sort(key=lambda member: order(member.figures))
        for member in members:
            key = ("process", member.process.key)
            opened = key not in shape.closed or bool(shape.words)
            yield Entry(key, partial(process_row, key, member, depth, opened, parents))
            if opened:
                member.threads.sort(key=order)
                for thread in member.threads:
                    if thread.loop is None:
                        yield thread_entry(member.process, thread, depth + 1, "")
                    else:
                        yield from _with_tasks(member.process, thread, depth + 1, shape)


def _with_tasks(
    process: ProcessView, thread: ThreadView, depth: int, shape: Shape
) -> Iterable[Entry]:
    """Yield the row of a thread, and those of the tasks of its loop."""
    tasks = busiest_tasks(thread)
    if not tasks:
        yield thread_entry(process, thread, depth, loop_note(thread))
        return
    key = thread_key(process, thread)
    opened = key not in shape.closed or bool(shape.words)
    yield thread_entry(process, thread, depth, loop_note(thread), opened=opened)
    if opened:
        for task in tasks:
            of_task: RowKey = (*key, task.name)
            yield Entry(of_task, partial(task_row, of_task, process, thread, task, depth + 1))


def _shown(
    process: ProcessView, shape: Shape, processes: Mapping[int, ProcessView]
) -> list[ThreadView]:
    """Return the process's threads that the filter lets through."""
    threads: Iterable[ThreadView] = process.threads
    if shape.busy:
        threads = filter(is_busy, threads)
    words = shape.words
    if words:
        whole = f"{process.key.pid} {process.group} {command_of(process, processes)}".lower()
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
