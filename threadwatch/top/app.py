"""The terminal application: keys in, lines out. What they mean is in :mod:`threadwatch.top.model`."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, cast

from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input

from threadwatch.errors import Gone, Unusable
from threadwatch.model import ProcessView, ThreadView, View
from threadwatch.top import title
from threadwatch.top.columns import Span, layout
from threadwatch.top.detail import detail
from threadwatch.top.examine import Examined
from threadwatch.top.guide import guide
from threadwatch.top.history import Shares
from threadwatch.top.look import Look
from threadwatch.top.model import Top
from threadwatch.top.source import Source
from threadwatch.top.tree import SORTS
from threadwatch.top.widgets import Lines

_WHEEL = 3
"""Rows that a turn of the mouse's wheel is."""


class Polled(Message):
    """A view has come."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view


class Failed(Message):
    """No view has come."""

    def __init__(self, why: str) -> None:
        super().__init__()
        self.why = why


class TopApp(App[str | None]):
    """The application; its result is a line that says why it could not go on, or None."""

    ENABLE_COMMAND_PALETTE = False
    TITLE: str | None = "threadwatch top"
    CSS = """
    Screen { background: ansi_default; color: ansi_default; }
    #list, #text { height: 1fr; }
    #filter { display: none; height: 1; border: none; padding: 0; background: ansi_default;
              color: ansi_default; }
    #filter:focus { border: none; background-tint: transparent 0%; }
    .filtering #filter { display: block; }
    .filtering #keys { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c,f10", "quit", priority=True),
        Binding("ctrl+z", "suspend_process", priority=True),
    ]

    def __init__(self, source: Source, top: Top, *, interval: float, colors: bool) -> None:
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"  # the terminal's own colours, dark or light
        self.source = source
        self.top = top
        self.interval = interval
        self.look = Look(colors=colors)
        self.trouble = ""
        self._stop = threading.Event()
        self._reader = threading.Thread(target=self._read, name="poller", daemon=True)

    def get_default_screen(self) -> Screen[None]:
        """The list."""
        return ListScreen()

    def on_mount(self) -> None:
        """Begin to read."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, partial(self.exit, None))
        self._reader.start()

    def on_unmount(self) -> None:
        """Stop reading."""
        self._stop.set()

    def close(self) -> None:
        """Wait until nobody reads any more, and let go of everything."""
        self._stop.set()
        if self._reader.ident is not None:
            self._reader.join(timeout=2)
        if not self._reader.is_alive():
            self.source.close()

    def _read(self) -> None:
        """In a thread of its own: what takes long must not keep keys waiting."""
        while not self._stop.is_set():
            try:
                view = self.source.next(self._stop.wait)
            except Unusable as error:
                self.post_message(Failed(str(error)))
                self._stop.wait(self.interval)
                continue
            if view is not None:
                self.post_message(Polled(view))

    def on_polled(self, message: Polled) -> None:
        """Show a view."""
        self.trouble = ""
        try:
            self.top.take(message.view)
        except Unusable as error:
            self.exit(str(error))
            return
        self.show()
        if isinstance(self.screen, DetailScreen):
            self.screen.look()

    def on_failed(self, message: Failed) -> None:
        """Say that what is shown grows old."""
        self.trouble = message.why
        self.show()

    def show(self) -> None:
        """Bring what is seen up to date."""
        screen = self.screen
        if isinstance(screen, ListScreen | TextScreen):
            screen.show()


class _Screen(Screen[None]):
    """A screen of this application."""

    AUTO_FOCUS: ClassVar[str | None] = ""

    @property
    def its(self) -> TopApp:
        """The application."""
        return cast("TopApp", self.app)


class ListScreen(_Screen):
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

    def __init__(self) -> None:
        super().__init__()
        self._first = 0
        """The first row that is seen."""
        self._height = 0

    def compose(self) -> ComposeResult:
        """Title, figures, heads of columns, rows, keys."""
        look = self.its.look
        for name in ("title", "figures", "head", "list", "keys"):
            yield Lines(look, id=name)
        yield Input(
            id="filter", placeholder="part of a name, a TID, a state …", select_on_focus=False
        )

    def on_resize(self) -> None:
        """Another size: other columns, more or fewer rows."""
        self.call_after_refresh(self.show)

    def on_screen_resume(self) -> None:
        """Seen again."""
        self.call_after_refresh(self.show)

    def show(self, *, hold: bool = True) -> None:
        """Draw everything that has changed. ``hold``: the cursor's line on the screen stays where it is."""
        app, top = self.its, self.its.top
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
            chosen.cells(row, top.history.together(row.threads), uptime)
            for row in rows[self._first : last]
        ]
        if rows and last == len(rows) and title.is_alone(top, app.source.own_pid):
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
                    where=app.source.where,
                    trouble=app.trouble,
                    interval=app.interval,
                    columns=width,
                )
            ]
        )
        self.query_one("#figures", Lines).show(
            [title.figures(top, notes=app.source.notes(), shown=(self._first, last), columns=width)]
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
        """Up or down."""
        self.action_go(max(self.its.top.at + by, 0))

    def action_page(self, by: int) -> None:
        """A screen up or down."""
        self.action_move(by * max(self.query_one("#list").size.height - 1, 1))

    def action_go(self, to: int) -> None:
        """To a row; -1 is the last one."""
        top = self.its.top
        top.move(len(top.rows) - 1 if to < 0 else to)
        self.show(hold=False)

    async def action_enter(self) -> None:
        """A thread in detail, or fold."""
        row = self.its.top.current
        if row is not None and row.thread is not None and row.process is not None:
            await self.its.push_screen(DetailScreen(row.process, row.thread))
        else:
            self.its.top.fold()
            self.show()

    def action_fold(self, opened: bool) -> None:  # noqa: FBT001  # as actions are called
        """Open or close."""
        self.its.top.fold(opened=opened)
        self.show(hold=False)

    def action_fold_all(self) -> None:
        """Close or open all."""
        self.its.top.fold_all()
        self.show(hold=False)

    def action_flat(self) -> None:
        """Tree or list."""
        self.its.top.toggle_flat()
        self.show(hold=False)

    def action_busy(self) -> None:
        """With idle threads or without."""
        self.its.top.toggle_busy()
        self.show(hold=False)

    def action_reverse(self) -> None:
        """The other way round."""
        self.its.top.reverse()
        self.show(hold=False)

    def action_sort(self, number: int) -> None:
        """Order by one of SORTS."""
        self.its.top.sort(SORTS[number])
        self.show(hold=False)

    def action_sort_next(self, step: int) -> None:
        """Order by another."""
        self.its.top.sort_next(step)
        self.show(hold=False)

    def action_pause(self) -> None:
        """Stand still, or go on."""
        self.its.top.pause()
        self.show()

    async def action_help(self) -> None:
        """The help screen."""
        await self.its.push_screen(HelpScreen())

    def action_filter(self) -> None:
        """Write a filter."""
        entry = self.query_one("#filter", Input)
        self.add_class("filtering")
        entry.value = self.its.top.filter_text
        entry.cursor_position = len(entry.value)
        entry.focus()

    def action_clear(self) -> None:
        """No filter any more."""
        self._end_filter()
        self.its.top.filter("")
        self.show()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter with each letter."""
        if self.has_class("filtering"):
            self.its.top.filter(event.value)
            self.show()

    def on_input_submitted(self) -> None:
        """The filter is as it should be."""
        self._end_filter()

    def _end_filter(self) -> None:
        self.remove_class("filtering")
        self.set_focus(None)

    async def on_click(self, event: events.Click) -> None:
        """To the row that was clicked; a second click is Enter; on a head, order by it."""
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
        """Down."""
        self.action_move(_WHEEL)

    def on_mouse_scroll_up(self) -> None:
        """Up."""
        self.action_move(-_WHEEL)


class TextScreen(_Screen):
    """Lines to read, longer than the screen perhaps."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,backspace", "app.pop_screen"),
        Binding("up,k", "scroll_by(-1)"),
        Binding("down,j", "scroll_by(1)"),
        Binding("pageup", "page(-1)"),
        Binding("pagedown", "page(1)"),
        Binding("home,g", "scroll_by(-100000)"),
        Binding("end", "scroll_by(100000)"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._first = 0

    def compose(self) -> ComposeResult:
        """Text, keys."""
        yield Lines(self.its.look, id="text")
        yield Lines(self.its.look, id="keys")

    def on_mount(self) -> None:
        """Show it."""
        self.call_after_refresh(self.show)

    def on_resize(self) -> None:
        """Show it anew."""
        self.call_after_refresh(self.show)

    def lines(self, columns: int) -> list[list[Span]]:
        """What is to be read."""
        raise NotImplementedError

    def show(self) -> None:
        """Draw what has changed."""
        text = self.query_one("#text", Lines)
        width, height = text.size
        if not width or not height:
            return
        lines = self.lines(width)
        self._first = max(min(self._first, len(lines) - height), 0)
        text.show(lines[self._first : self._first + height])
        keys = [Span("Esc", "key"), Span(" Back", "dim")]
        if len(lines) > height:
            keys += [Span("  ↑ ↓", "key"), Span(" Scroll", "dim")]
        self.query_one("#keys", Lines).show([keys])

    def action_scroll_by(self, by: int) -> None:
        """Up or down."""
        self._first = max(self._first + by, 0)
        self.show()

    def action_page(self, by: int) -> None:
        """A screen up or down."""
        self.action_scroll_by(by * max(self.query_one("#text").size.height - 1, 1))

    def on_mouse_scroll_down(self) -> None:
        """Down."""
        self.action_scroll_by(_WHEEL)

    def on_mouse_scroll_up(self) -> None:
        """Up."""
        self.action_scroll_by(-_WHEEL)


class HelpScreen(TextScreen):
    """What keys, bars and columns mean."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("f1,question_mark,h", "app.pop_screen")]

    def lines(self, columns: int) -> list[list[Span]]:  # noqa: ARG002  # it is as wide as it is
        """The guide."""
        return guide()


class DetailScreen(TextScreen):
    """One thread."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("space", "pause")]

    def __init__(self, process: ProcessView, thread: ThreadView) -> None:
        super().__init__()
        self._process, self._thread = process, thread
        self._key = (process.key, thread.tid, thread.start_ticks)
        self._more: Examined | str = "…"
        self._history: Sequence[tuple[float, Shares]] = ()

    def on_mount(self) -> None:
        """Look for the first time."""
        super().on_mount()
        self.look()

    def look(self) -> None:
        """Ask for what only this thread is asked for; in a thread, because the kernel may take its time."""
        if not self.its.top.paused:
            self.run_worker(self._look(), exclusive=True)

    async def _look(self) -> None:
        try:
            self._more = await asyncio.to_thread(self.its.source.examine, self._key)
        except Gone:
            self._more = "it has ended"
        self.show()

    def lines(self, columns: int) -> list[list[Span]]:
        """All about the thread."""
        top = self.its.top
        found = top.find(self._key)
        if found is not None:
            self._process, self._thread = found
            self._history = top.history.line(self._key)
        return detail(
            self._process,
            self._thread,
            self._history,
            self._more,
            gone=found is None,
            started=top.view.started(self._thread.start_ticks) if top.view else 0.0,
            uptime=top.uptime,
            columns=columns,
        )

    def action_pause(self) -> None:
        """Stand still, or go on."""
        self.its.top.pause()
        self.show()
