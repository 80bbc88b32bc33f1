"""Draws the list of threads: keys in, lines out. :mod:`threadwatch.top.model` acts on the keys."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input

from threadwatch.top import title
from threadwatch.top.columns import Span, layout
from threadwatch.top.order import SORTS
from threadwatch.top.session import WHEEL, Session, SessionScreen
from threadwatch.top.text_screens import DetailScreen, HelpScreen
from threadwatch.top.widgets import Lines


class ListScreen(SessionScreen):
    """The list of threads."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "app.quit"),
        Binding("up,k", "move(-1)"),
        Binding("down,j", "move(1)"),
        Binding("pageup", "page(-1)"),
        Binding("pagedown", "page(1)"),
        Binding("home,g", "go(0)"),
        Binding("end", "go(-1)"),
        Binding("enter", "enter"),
        Binding("right,plus", "fold(True)"),
        Binding("left,minus", "fold(False)"),
        Binding("asterisk", "fold_all"),
        Binding("t,f5", "flat"),
        Binding("i", "busy"),
        Binding("I", "reverse"),
        Binding("greater_than_sign,f6", "sort_next(1)"),
        Binding("less_than_sign", "sort_next(-1)"),
        *(Binding(sort.key, f"sort({number})") for number, sort in enumerate(SORTS)),
        Binding("slash,f4", "filter"),
        Binding("escape", "clear"),
        Binding("space", "pause"),
        Binding("f1,question_mark,h", "help"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._first = 0
        """The first visible row."""
        self._height = 0

    def compose(self) -> ComposeResult:
        """Yield title, figures, column titles, rows and keys."""
        look = self.its.look
        for name in ("title", "figures", "head", "list", "keys"):
            yield Lines(look, id=name)
        yield Input(
            id="filter", placeholder="part of a name, a TID, a state …", select_on_focus=False
        )

    def on_resize(self) -> None:
        """Adapt columns and rows to another size."""
        self.call_after_refresh(self.show)

    def on_screen_resume(self) -> None:
        """Draw the list when it becomes visible again."""
        self.call_after_refresh(self.show)

    def show(self, *, hold: bool = True) -> None:
        """Draw what has changed. With ``hold``, the cursor's line stays at its place on the screen."""
        its, top = self.its, self.its.top
        listed = self.query_one("#list", Lines)
        width, height = listed.size
        if not width or not height:
            return
        rows = top.rows
        self._scroll(len(rows), height, hold=hold)
        last = min(self._first + height, len(rows))
        chosen = layout(width, top.known, top.shape.sort.column)
        uptime = top.uptime
        lines = [
            chosen.cells(row, top.history.together(row.timed, row.whole), uptime)
            for row in rows[self._first : last]
        ]
        if rows and last == len(rows) and title.is_alone(top, its.source.own_pid):
            lines += ([], *([Span(f"  {text}", "dim")] for text in title.ALONE))
        if not rows:
            lines = [[], *([Span(f"  {text}", "dim")] for text in title.nothing(top))]
        listed.show(lines, cursor=self._line if rows else -1)
        self.query_one("#head", Lines).show(
            [chosen.head(top.shape.sort, reverse=top.shape.reverse)]
        )
        self.query_one("#title", Lines).show(
            [
                title.title(
                    top,
                    where=its.source.where,
                    trouble=its.trouble,
                    interval=its.interval,
                    columns=width,
                )
            ]
        )
        self.query_one("#figures", Lines).show(
            [title.figures(top, notes=its.source.notes(), shown=(self._first, last), columns=width)]
        )
        self.query_one("#keys", Lines).show([title.footer(width)])

    def _scroll(self, number: int, height: int, *, hold: bool) -> None:
        at = self.its.top.at
        if hold and self.its.top.cursor is not None:
            self._first = at - self._line
        self._first = min(self._first, at, max(number - height, 0))
        self._first = max(self._first, at - height + 1, 0)
        self._line = at - self._first

    _line = 0
    """The line of the list that the cursor is on."""

    def action_move(self, by: int) -> None:
        """Move the cursor up or down."""
        self.action_go(max(self.its.top.at + by, 0))

    def action_page(self, by: int) -> None:
        """Move the cursor by a screen."""
        self.action_move(by * max(self.query_one("#list").size.height - 1, 1))

    def action_go(self, to: int) -> None:
        """Move the cursor to a row; -1 is the last one."""
        top = self.its.top
        top.move(len(top.rows) - 1 if to < 0 else to)
        self.show(hold=False)

    async def action_enter(self) -> None:
        """Show a thread in detail, or fold a row."""
        row = self.its.top.current
        if row is not None and row.thread is not None and row.process is not None:
            await self.app.push_screen(DetailScreen(self.its, row.process, row.thread))
        else:
            self.its.top.fold()
            self.show()

    def action_fold(self, opened: bool) -> None:  # noqa: FBT001  # as actions are called
        """Open or close a row."""
        self.its.top.fold(opened=opened)
        self.show(hold=False)

    def action_fold_all(self) -> None:
        """Open or close all rows."""
        self.its.top.fold_all()
        self.show(hold=False)

    def action_flat(self) -> None:
        """Show a tree or a list."""
        self.its.top.toggle_flat()
        self.show(hold=False)

    def action_busy(self) -> None:
        """Show or hide idle threads."""
        self.its.top.toggle_busy()
        self.show(hold=False)

    def action_reverse(self) -> None:
        """Reverse the order."""
        self.its.top.reverse()
        self.show(hold=False)

    def action_sort(self, number: int) -> None:
        """Order by one of SORTS."""
        self.its.top.sort(SORTS[number])
        self.show(hold=False)

    def action_sort_next(self, step: int) -> None:
        """Order by the next column."""
        self.its.top.sort_next(step)
        self.show(hold=False)

    def action_pause(self) -> None:
        """Pause, or go on."""
        self.its.top.pause()
        self.show()

    async def action_help(self) -> None:
        """Show the help screen."""
        await self.app.push_screen(HelpScreen(self.its))

    def action_filter(self) -> None:
        """Open the line for the filter."""
        entry = self.query_one("#filter", Input)
        self.add_class("filtering")
        entry.value = self.its.top.filter_text
        entry.cursor_position = len(entry.value)
        entry.focus()

    def action_clear(self) -> None:
        """Remove the filter."""
        self._end_filter()
        self.its.top.filter("")
        self.show()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter with each letter."""
        if self.has_class("filtering"):
            self.its.top.filter(event.value)
            self.show()

    def on_input_submitted(self) -> None:
        """Close the line and keep the filter."""
        self._end_filter()

    def _end_filter(self) -> None:
        self.remove_class("filtering")
        self.set_focus(None)

    async def on_click(self, event: events.Click) -> None:
        """Move the cursor to the clicked row; a second click is Enter; a click on a title orders by it."""
        listed = self.query_one("#list")
        y = event.screen_y - listed.region.y
        if event.screen_y == self.query_one("#head").region.y:
            self._sort_at(event.screen_x)
        elif 0 <= y < listed.size.height and self._first + y < len(self.its.top.rows):
            self.action_go(self._first + y)
            if event.chain > 1:
                await self.action_enter()

    def _sort_at(self, x: int) -> None:
        listed = self.query_one("#list")
        column = layout(
            listed.size.width, self.its.top.known, self.its.top.shape.sort.column
        ).title_at(x)
        for number, sort in enumerate(SORTS):
            if sort.column == column:
                self.action_sort(number)

    def on_mouse_scroll_down(self) -> None:
        """Move the list down."""
        self.action_move(WHEEL)

    def on_mouse_scroll_up(self) -> None:
        """Move the list up."""
        self.action_move(-WHEEL)
