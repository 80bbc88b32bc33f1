"""Turns a view into rows, ordered and filtered: group → process → thread → task, or one list of threads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from threadwatch.model.view import ProcessView, ThreadView
from threadwatch.top.figures import Figures, Sums, sum_of
from threadwatch.top.order import SORTS, Sort, sort_key
from threadwatch.top.row import (
    Entry,
    Member,
    Piece,
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

Order = Callable[[Figures | ThreadView], tuple[object, ...]]
"""A key to sort by."""


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


def rows(processes: Sequence[ProcessView], shape: Shape, sums: Sums) -> Rows:
    """Return the lines of the list. ``sums``: of these processes."""
    order = sort_key(shape.sort, reverse=shape.reverse)
    if not shape.flat:
        return Rows(_tree(processes, shape, order, sums))
    parents = {process.key.pid: process for process in processes}
    found = [
        (process, thread) for process in processes for thread in _shown(process, shape, parents)
    ]
    return Rows([Piece(len(found), partial(_flat, found, order))])


def _flat(found: list[tuple[ProcessView, ThreadView]], order: Order) -> list[Entry]:
    found.sort(key=lambda pair: order(pair[1]))
    return [thread_entry(process, thread, 0, printable(process.group)) for process, thread in found]


def _tree(
    processes: Sequence[ProcessView], shape: Shape, order: Order, sums: Sums
) -> Iterable[Piece]:
    parents = {process.key.pid: process for process in processes}
    sizes = Counter(process.group for process in processes)  # hidden processes count, too
    families: dict[str, list[Member]] = {}
    for process in processes:
        threads = _shown(process, shape, parents)
        if threads or not (shape.words or shape.busy):
            families.setdefault(process.group, []).append(
                Member(process, threads, sums.of(process))
            )
    groups = [
        (name, members, sum_of(m.figures for m in members)) for name, members in families.items()
    ]
    groups.sort(key=lambda entry: (order(entry[2]), entry[0]))
    for name, members, figures in groups:
        together = sizes[name] > 1
        if together:
            key: RowKey = ("group", name)
            opened = key not in shape.closed or bool(shape.words)
            yield _single(Entry(key, partial(group_row, key, name, members, figures, opened)))
            if not opened:
                continue
        depth = int(together)
        members.sort(key=lambda member: order(member.figures))
        for member in members:
            key = ("process", member.process.key)
            opened = key not in shape.closed or bool(shape.words)
            yield _single(Entry(key, partial(process_row, key, member, depth, opened, parents)))
            if opened:
                yield _threads(member, depth + 1, shape, order)


def _single(entry: Entry) -> Piece:
    return Piece(1, lambda: [entry])


def _threads(member: Member, depth: int, shape: Shape, order: Order) -> Piece:
    """Return the rows of a process's threads, and those of their tasks."""
    process, threads = member.process, member.threads

    def list_all() -> list[Entry]:
        entries: list[Entry] = []
        for thread in sorted(threads, key=order):
            if thread.loop is None:
                entries.append(thread_entry(process, thread, depth, ""))
            else:
                entries += _with_tasks(process, thread, depth, shape)
        return entries

    if all(thread.loop is None for thread in threads):
        return Piece(len(threads), list_all, process.key)
    entries = list_all()  # which tasks have rows says how many there are
    return Piece(len(entries), lambda: entries, process.key)


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
) -> Sequence[ThreadView]:
    """Return the process's threads that the filter lets through."""
    threads: Sequence[ThreadView] = process.threads
    if shape.busy:
        threads = [thread for thread in threads if is_busy(thread)]
    words = shape.words
    if words:
        whole = f"{process.key.pid} {process.group} {command_of(process, processes)}".lower()
        if not any(word in whole for word in words):
            threads = [thread for thread in threads if _fits(thread, words)]
    return threads


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
