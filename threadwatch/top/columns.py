"""Lays out a row: the columns that a terminal's width has room for, and the text in them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from threadwatch.model.keys import TICKS_PER_SECOND
from threadwatch.model.view import ThreadView
from threadwatch.top.bars import divide, letters
from threadwatch.top.figures import Figures
from threadwatch.top.history import WINDOW, Shares
from threadwatch.top.order import Sort
from threadwatch.top.row import Row
from threadwatch.words.text import cut, cut_middle, pad, printable, width
from threadwatch.words.wording import age, duration, percent

Subject = Figures | ThreadView

_GAP = "  "
_LEAST_NAME = 22
_TINY_NAME = 8
"""Width of a name beside one last column."""
_MOST_NAME = 48
_LEAST_BAR = 10
_MOST_BAR = 60
_LUXURIES = ("COMM", "LAST CPU", "SYS", "USER", "AGE")
_GOOD_NAME = 26
_GOOD_BAR = 20
"""The room for names and bars that dispensable columns have to leave."""
_NARROW = 100
"""Below this, columns have their short titles."""
PLAIN_WIDTH = 132
"""Width of a line if there is no terminal."""


class Span(NamedTuple):
    """A piece of a line. Its style is a word for its content; :mod:`threadwatch.top.look` has the colours."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """One column beside names and bars. Its width is fixed: nothing moves when figures change."""

    title: str
    width: int
    text: Callable[[Subject, float], str]
    """Returns the text, from a row's figures and the seconds since boot that start times refer to."""
    short: str = ""
    """The title where there is little room."""
    narrow: int = 0
    """The column's width with little room."""
    right: bool = True
    optional: bool = False
    """Left out if no row has a value."""
    dim: bool = False


def _of_thread(value: Callable[[ThreadView], str]) -> Callable[[Subject, float], str]:
    return lambda figures, _: value(figures) if isinstance(figures, ThreadView) else ""


def _age(figures: Subject, uptime: float) -> str:
    return age(uptime - figures.start_ticks / TICKS_PER_SECOND) if uptime else ""


_TID = Column("TID", 7, lambda f, _: str(f.tid or ""), dim=True)
_STATE = Column("STATE", 8, lambda f, _: f.state, right=False)
_COLUMNS = (
    _TID,
    _STATE,
    Column("CPU %", 6, lambda f, _: percent(f.cpu_ratio)),
    Column("GIL HELD", 9, lambda f, _: percent(f.gil_held_ratio), "HELD", 6, optional=True),
    Column("GIL WAIT", 9, lambda f, _: percent(f.gil_wait_ratio), "WAIT", 6, optional=True),
    Column("USER", 6, lambda f, _: percent(f.user_ratio), dim=True),
    Column("SYS", 6, lambda f, _: percent(f.system_ratio), dim=True),
    Column("READY", 6, lambda f, _: percent(f.runqueue_ratio), optional=True),
    Column("CPU TIME", 9, lambda f, _: duration((f.user_ns + f.system_ns) / 1e9)),
    Column("AGE", 6, _age, dim=True),
    Column("LAST CPU", 8, _of_thread(lambda t: str(t.last_cpu)), dim=True),
    Column("COMM", 15, _of_thread(lambda t: printable(t.comm)), right=False, dim=True),
)
OPTIONAL = frozenset(column.title for column in _COLUMNS if column.optional)
_DISPENSABLE = (
    *("COMM", "LAST CPU", "SYS", "USER", "AGE", "READY", "CPU TIME", "bar", "GIL HELD", "GIL WAIT"),
    *("STATE", "TID"),
)
"""Columns that are left out, in this order, where there is no room."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a list of a certain width."""

    columns: tuple[Column, ...]
    name: int
    """Width of the column of names."""
    bar: int
    """Width of the bar; 0: none."""

    def head(self, sort: Sort, *, reverse: bool) -> list[Span]:
        """Return the line of titles; the column that orders the rows is marked."""
        mark = "▾" if sort.falling != reverse else "▴"
        spans: list[Span] = []
        for column in self._with_name():
            if column is None:
                spans += (Span(pad("THREAD", self.name), "head"), Span(_GAP, "head"))
                continue
            title, style = column.short or column.title, "head"
            if column.title == sort.column:
                style = "head-sorted"
                title = mark + title if column.right else title + mark
                if width(title) > column.width:
                    title = title.replace(" ", "")
            spans += (Span(pad(title, column.width, right=column.right), style), Span(_GAP, "head"))
        if not self.bar:
            return spans[:-1]
        long, short = (
            f"WHERE TIME WENT, LAST {WINDOW:.0f} S",
            f"LAST {WINDOW:.0f} S",
        )
        spans.append(Span(pad(long if self.bar >= width(long) else short, self.bar), "head"))
        return spans

    def title_at(self, x: int) -> str:
        """Return the title of the column at ``x``; empty where there is none."""
        for column in self._with_name():
            x -= (self.name if column is None else column.width) + len(_GAP)
            if x < 0:
                return "THREAD" if column is None else column.title
        return ""

    def cells(self, row: Row, shares: Shares, uptime: float) -> list[Span]:
        """Return the line of one row. ``shares``: its bar; ``uptime``: seconds since boot, 0 if unknown."""
        spans: list[Span] = []
        has_state = row.thread is not None
        together, before = "", ""
        """Cells of one style that stand side by side: fewer spans are drawn sooner."""
        for column in self._with_name():
            if column is None:
                room = self.name
                if not has_state and any(c.title == "STATE" for c in self.columns):
                    room += len(_GAP) + _STATE.width  # the name takes STATE's room
                if together:
                    spans.append(Span(together, before))
                spans += _label(row, room)
                together, before = _GAP, ""
                continue
            if column.title == "STATE" and not has_state:
                continue
            text = "" if _is_threads_own(column, row) else column.text(row.figures, uptime)
            style = _style(column, row, text)
            if style != before and together:
                spans.append(Span(together, before))
                together = ""
            before = style
            together += pad(cut(text, column.width), column.width, right=column.right) + _GAP
        if not self.bar:
            spans.append(Span(together.removesuffix(_GAP), before))
            return spans
        spans.append(Span(together, before))
        used = 0
        for state, number in divide(shares, self.bar):
            spans.append(Span(letters(state, number), f"bar-{state}"))
            used += number
        spans.append(Span(" " * (self.bar - used)))
        return spans

    def _with_name(self) -> Sequence[Column | None]:
        """Return the columns, with None in the place of the names, which follow the TID."""
        behind = int(bool(self.columns) and self.columns[0].title == "TID")
        return (*self.columns[:behind], None, *self.columns[behind:])


def layout(columns: int, known: Collection[str] = OPTIONAL, keep: str = "") -> Layout:
    """Return the layout. ``known``: the titles of those optional columns that have values.

    ``keep``: the title of the column that orders the rows, which is kept as long as any is.
    """
    shown = [column for column in _COLUMNS if not column.optional or column.title in known]
    if columns < _NARROW:
        shown = [
            replace(column, width=column.narrow) if column.narrow else replace(column, short="")
            for column in shown
        ]
    else:
        shown = [replace(column, short="") for column in shown]
    has_bar = True
    for title in (*(title for title in _DISPENSABLE if title != keep), keep):
        names, bars = (_GOOD_NAME, _GOOD_BAR) if title in _LUXURIES else (_LEAST_NAME, _LEAST_BAR)
        if title in ("TID", keep):
            names = _TINY_NAME
        if _taken(shown) + names + has_bar * (bars + len(_GAP)) <= columns:
            break
        if title == "bar":
            has_bar = False
        shown = [column for column in shown if column.title != title]
    left = max(columns - _taken(shown), 1)
    bar = 0
    if has_bar:
        left -= len(_GAP)
        bar = min(max(left * 2 // 5, _LEAST_BAR), _MOST_BAR)
        if left - bar > _MOST_NAME:
            bar = min(left - _MOST_NAME, _MOST_BAR)
        left -= bar
    return Layout(tuple(shown), min(left, _MOST_NAME), bar)


def _taken(columns: Sequence[Column]) -> int:
    return sum(column.width + len(_GAP) for column in columns)


def _label(row: Row, columns: int) -> list[Span]:
    """Return the name, indented by the depth of the row, and the note behind it."""
    before = "  " * row.depth + {True: "▾ ", False: "▸ ", None: ""}[row.opened]
    room = columns - width(before)
    if room < 2:
        return [Span(" " * columns)]
    style: str = row.kind
    if row.thread is not None:
        name = cut_middle(row.name, room)
        style = "comm" if row.thread.source == "comm" else "thread"
    else:
        name = cut(row.name, room)
    spans = [Span(before, "dim"), Span(name, style)]
    room -= width(name)
    if row.note and room > 2 * len(_GAP):
        note = _GAP + cut(row.note, room - len(_GAP))
        spans.append(Span(note, "dim"))
        room -= width(note)
    spans.append(Span(" " * max(room, 0)))
    return spans


def _is_threads_own(column: Column, row: Row) -> bool:
    """Return whether a task has no value of its own in the column: nothing tells its age."""
    return row.kind == "task" and column.title == "AGE"


def _style(column: Column, row: Row, text: str) -> str:
    if column.title == "STATE":
        return f"state-{row.figures.state}"
    if column.dim or text in ("0.0", "0.00"):
        return "dim"
    return "figure" if row.kind in ("thread", "task") else "sum"
