"""Keeps the user's choices and the latest views, and derives the rows from both.

Rules:

* The cursor stays on its row, wherever that moves; if the row has gone, on the row that takes its
place. Until the user moves the cursor, it stays on the first row.
* A pause stops the screen; views that come meanwhile are kept and shown after the pause.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from threadwatch.errors import Unusable
from threadwatch.model.keys import ProcessKey, ThreadKey
from threadwatch.model.view import ProcessView, ThreadView, View
from threadwatch.top.columns import OPTIONAL
from threadwatch.top.figures import Sums
from threadwatch.top.history import KEPT, History
from threadwatch.top.order import SORTS, Sort
from threadwatch.top.row import Row, RowKey, Rows
from threadwatch.top.rows import Shape, parse_filter, rows
from threadwatch.words.choose import choose


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of the headline."""

    processes: int
    published: int
    threads: int
    cpu_ratio: float
    gil_group: str
    """The group whose GIL is held the largest part of the time."""
    gil_held_ratio: float | None


class Top:
    """The state of the screen. Not for several threads."""

    def __init__(self, what: Sequence[str] = (), shape: Shape | None = None) -> None:
        """``what``: PIDs and applications, as ``ps`` takes them; empty: all."""
        self.what = tuple(what)
        self.shape = shape or Shape()
        self.filter_text = "|".join(self.shape.words)
        self.history = History()
        self.view: View | None = None
        self.paused = False
        self.cursor: RowKey | None = None
        """The row that the user has chosen; None: the first one, wherever that moves."""
        self.known: frozenset[str] = frozenset()
        """Titles of optional columns that have had values."""
        self._kept: deque[View] = deque(maxlen=KEPT)
        self._processes: tuple[ProcessView, ...] = ()
        self._members: frozenset[ProcessKey] = frozenset()
        self._rows: Rows | None = None
        self._sums = Sums()
        self._at = 0

    def take(self, view: View) -> None:
        """Take the view of one more poll.

        :raises Unusable: it is the first view, and has no process that was asked for.
        """
        if self.paused and self.view is not None:
            self._kept.append(view)
            return
        self._processes = self._choose(view)
        self.view = view._replace(processes=self._processes)
        self.history.add(self.view)
        self._sums.take(self._processes)
        self._members = frozenset(process.key for process in self._processes)
        self.known |= _known(self._processes)
        self._rows = None

    def pause(self) -> None:
        """Pause the screen, or go on."""
        self.paused = not self.paused
        if not self.paused:
            while self._kept:
                self.take(self._kept.popleft())

    @property
    def uptime(self) -> float:
        """Return the seconds since boot, which start times refer to; 0 before the first view."""
        return self.view.boottime_ns / 1e9 if self.view else 0.0

    @property
    def rows(self) -> Rows:
        """Return the list as it stands."""
        if self._rows is None:
            self._rows = rows(self._processes, self.shape, self._sums)
        return self._rows

    @property
    def at(self) -> int:
        """Return the index of the row under the cursor; 0 in an empty list."""
        listed = self.rows
        if self.cursor is None:
            self._at = 0
        elif not (self._at < len(listed) and listed.key(self._at) == self.cursor):
            found = listed.find(self.cursor)
            self._at = min(self._at if found is None else found, max(len(listed) - 1, 0))
            if found is None and listed:
                self.cursor = listed.key(self._at)
        return self._at

    @property
    def current(self) -> Row | None:
        """Return the row under the cursor."""
        return self.rows[self.at] if self.rows else None

    def move(self, to: int) -> None:
        """Move the cursor to a row; on the first row it counts as not moved."""
        if self.rows:
            self._at = min(max(to, 0), len(self.rows) - 1)
            self.cursor = self.rows.key(self._at) if self._at else None

    def sort(self, sort: Sort) -> None:
        """Order by this column; reverse the order if it is this column already."""
        same = self.shape.sort is sort
        self._change(replace(self.shape, sort=sort, reverse=same and not self.shape.reverse))

    def sort_next(self, step: int) -> None:
        """Order by the next column, or the one before."""
        to = (SORTS.index(self.shape.sort) + step) % len(SORTS)
        self._change(replace(self.shape, sort=SORTS[to], reverse=False))

    def reverse(self) -> None:
        """Reverse the order."""
        self._change(replace(self.shape, reverse=not self.shape.reverse))

    def toggle_flat(self) -> None:
        """Switch between a tree and a list of threads."""
        self._change(replace(self.shape, flat=not self.shape.flat))

    def toggle_busy(self) -> None:
        """Switch between all threads and those that run or wait to run."""
        self._change(replace(self.shape, busy=not self.shape.busy))

    def filter(self, text: str) -> None:
        """Show only rows that match."""
        self.filter_text = text
        self._change(replace(self.shape, words=parse_filter(text)))

    def fold(self, *, opened: bool | None = None) -> None:
        """Open or close the row under the cursor; None toggles it.

        Closing a row that has nothing below it moves the cursor to the row above it in the tree.
        """
        row = self.current
        if row is None:
            return
        if row.opened is None or (opened is False and not row.opened):
            if opened is False:
                above = (n for n in range(self.at - 1, -1, -1) if self.rows[n].depth < row.depth)
                self.move(next(above, self.at))
            return
        to_open = not row.opened if opened is None else opened
        at = self.at
        closed = self.shape.closed - {row.key} if to_open else self.shape.closed | {row.key}
        self._change(replace(self.shape, closed=closed))
        self.move(at)

    def fold_all(self) -> None:
        """Close all rows, or open them if all are closed."""
        keys: set[RowKey] = {("process", process.key) for process in self._processes}
        keys |= {("group", process.group) for process in self._processes}
        closed = frozenset() if keys <= self.shape.closed else frozenset(keys)
        row = self.current
        self._change(replace(self.shape, closed=closed))
        if row is not None and self.cursor is not None and closed:
            above = {row.key, ("group", row.process.group if row.process else "")}
            if row.process is not None:
                above.add(("process", row.process.key))
            inside = (n for n in range(len(self.rows)) if self.rows.key(n) in above)
            self.move(next(inside, 0))

    def find(self, key: ThreadKey) -> tuple[ProcessView, ThreadView] | None:
        """Return the current views of a thread and its process; None if it has ended."""
        process_key, *identity = key
        for process in self._processes:
            if process.key == process_key:
                for thread in process.threads:
                    if [thread.tid, thread.start_ticks] == identity:
                        return process, thread
        return None

    def summary(self) -> Summary:
        """Return the figures of the headline."""
        held: dict[ProcessKey, tuple[float, str]] = {
            process.key: (ratio, process.group)
            for process in self._processes
            if (ratio := process.gil_held_ratio) is not None
        }
        most = max(held.values(), default=None)
        return Summary(
            processes=len(self._processes),
            published=sum(process.published for process in self._processes),
            threads=sum(len(process.threads) for process in self._processes),
            cpu_ratio=sum(process.cpu_ratio or 0.0 for process in self._processes),
            gil_group=most[1] if most else "",
            gil_held_ratio=most[0] if most else None,
        )

    def _choose(self, view: View) -> tuple[ProcessView, ...]:
        """Return the processes that were asked for, and those shown before that are still alive."""
        try:
            chosen = choose(view, self.what, "top")
        except Unusable:
            if self.view is None:
                raise
            chosen = ()
        if not self.what:
            return chosen
        keys = {process.key for process in chosen} | self._members
        return tuple(process for process in view.processes if process.key in keys)

    def _change(self, shape: Shape) -> None:
        self.shape = shape
        self._rows = None


def _known(processes: Sequence[ProcessView]) -> frozenset[str]:
    threads = [thread for process in processes for thread in process.threads]
    seen = {
        "GIL HELD": any(thread.gil_held_ratio is not None for thread in threads),
        "GIL WAIT": any(thread.gil_wait_ratio is not None for thread in threads),
        "READY": any(thread.runqueue_ratio is not None for thread in threads),
    }
    return OPTIONAL & {title for title, is_known in seen.items() if is_known}
