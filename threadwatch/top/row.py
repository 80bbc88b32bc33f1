"""Makes the lines of the list: of a group, a process, a thread, a task. Each is made when it is asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Literal, NamedTuple, overload

from threadwatch.model.keys import ProcessKey, ThreadKey
from threadwatch.model.loops import TaskView
from threadwatch.model.view import ProcessView, ThreadView
from threadwatch.top.figures import Figures, figures_of_task
from threadwatch.words.text import printable
from threadwatch.words.wording import command, count, loop_held, percent, tasks_alive, thread_name

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
    """The threads that the row stands for, but for those of :attr:`whole`; of a task, its thread."""
    process: ProcessView | None = None
    """None for a group."""
    thread: ThreadView | None = None
    group: str = ""
    """Printable."""
    note: str = ""
    """A remark behind its name, dimmed."""
    opened: bool | None = None
    """Whether the rows below it are shown; None: there are none."""
    whole: tuple[ProcessKey, ...] = ()
    """Processes for all of whose threads the row stands."""

    @property
    def timed(self) -> tuple[ThreadKey, ...]:
        """Return the threads whose time its bar shows: none for a task."""
        return () if self.kind == "task" else self.threads


class Entry(NamedTuple):
    """A row that is made when it is asked for."""

    key: RowKey
    make: Callable[[], Row]


class Piece:
    """Lines that follow one another. They are put in order and made when one of them is asked for."""

    def __init__(
        self, size: int, list_all: Callable[[], list[Entry]], process: ProcessKey | None = None
    ) -> None:
        """``list_all`` returns ``size`` lines; ``process``: theirs, None if they are not of a single one."""
        self.size = size
        self._list_all: Callable[[], list[Entry]] | None = list_all
        self._entries: list[Entry] = []
        self._process = process

    @property
    def entries(self) -> list[Entry]:
        """Return the lines."""
        if self._list_all is not None:
            self._entries, self._list_all = self._list_all(), None
        return self._entries

    def can_have(self, key: RowKey) -> bool:
        """Return whether the line with this key can be here."""
        return self._process is None or self._process == key[1]


class Rows(Sequence[Row]):
    """The lines of the list. Each is made when it is asked for: most are not on the screen."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._pieces = [piece for piece in pieces if piece.size]
        self._ends = list(accumulate(piece.size for piece in self._pieces))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self._entry(one).make() for one in range(*index.indices(len(self)))]
        return self._entry(index).make()

    def key(self, index: int) -> RowKey:
        """Return the key of a row."""
        return self._entry(index).key

    def find(self, key: RowKey) -> int | None:
        """Return the place of a row by its key; None: it is not there."""
        for piece, end in zip(self._pieces, self._ends, strict=True):
            if piece.can_have(key):
                for place, entry in enumerate(piece.entries):
                    if entry.key == key:
                        return end - piece.size + place
        return None

    def _entry(self, index: int) -> Entry:
        place = range(len(self))[index]
        number = bisect_right(self._ends, place)
        piece = self._pieces[number]
        return piece.entries[place - self._ends[number] + piece.size]


class Member(NamedTuple):
    """A process of a group, with those of its threads that are shown."""

    process: ProcessView
    threads: Sequence[ThreadView]
    figures: Figures

    @property
    def is_whole(self) -> bool:
        """Return whether all threads of the process are shown."""
        return len(self.threads) == len(self.process.threads)

    def identities(self) -> Iterable[ThreadKey]:
        """Return the keys of the threads, if not all are shown."""
        if self.is_whole:
            return ()
        key = self.process.key
        return ((key, thread.tid, thread.start_ticks) for thread in self.threads)


def group_row(
    key: RowKey,
    name: str,
    members: Sequence[Member],
    figures: Figures,
    opened: bool,  # noqa: FBT001  # bound by position, with the others
) -> Row:
    """Return the line of a group of several processes."""
    shown = printable(name)
    threads = sum(len(member.process.threads) for member in members)
    return Row(
        key,
        "group",
        0,
        shown,
        figures,
        tuple(identity for member in members for identity in member.identities()),
        group=shown,
        note=count(len(members), "process", "processes")
        + ", "
        + count(threads, "thread", "threads"),
        opened=opened,
        whole=tuple(member.process.key for member in members if member.is_whole),
    )


def process_row(
    key: RowKey,
    member: Member,
    depth: int,
    opened: bool,  # noqa: FBT001  # bound by position, with the others
    parents: Mapping[int, ProcessView],
) -> Row:
    """Return the line of a process; of one that is alone in its group, with the group's name."""
    process = member.process
    shown, text = printable(process.group), command_of(process, parents)
    return Row(
        key,
        "process",
        depth,
        text if depth else shown,
        member.figures,
        tuple(member.identities()),
        process=process,
        group=shown,
        note="" if depth else text,
        opened=opened if member.threads else None,
        whole=(process.key,) if member.is_whole else (),
    )


def task_row(
    key: RowKey, process: ProcessView, thread: ThreadView, task: TaskView, depth: int
) -> Row:
    """Return the line of a task."""
    return Row(
        key,
        "task",
        depth,
        printable(task.name),
        figures_of_task(task, thread),
        ((process.key, thread.tid, thread.start_ticks),),
        process=process,
        group=process.group,
        note=_task_note(task),
    )


def loop_note(thread: ThreadView) -> str:
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


def thread_key(process: ProcessView, thread: ThreadView) -> RowKey:
    """Return what identifies the line of a thread."""
    return ("thread", process.key, thread.tid, thread.start_ticks)


def thread_entry(
    process: ProcessView, thread: ThreadView, depth: int, note: str, *, opened: bool | None = None
) -> Entry:
    """Return the line of a thread, not made yet; ``opened`` says whether its tasks are shown."""
    key = thread_key(process, thread)
    return Entry(key, partial(_thread_row, key, process, thread, depth, note, opened))


def _thread_row(
    key: RowKey,
    process: ProcessView,
    thread: ThreadView,
    depth: int,
    note: str,
    opened: bool | None,  # noqa: FBT001  # bound by position, with the others
) -> Row:
    return Row(
        key,
        "thread",
        depth,
        thread_name(thread),
        thread,
        ((process.key, thread.tid, thread.start_ticks),),
        process=process,
        thread=thread,
        group=process.group,
        note=note,
        opened=opened,
    )


def command_of(process: ProcessView, processes: Mapping[int, ProcessView]) -> str:
    """Return what a process runs, as far as its parent, one of ``processes``, does not say it."""
    parent = processes.get(process.ppid)
    return command(process, parent if parent and parent.group == process.group else None)
