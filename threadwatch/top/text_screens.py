"""Draws screens of text: the help, and one thread in detail."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from threadwatch.errors import Gone, Unusable
from threadwatch.model.closeup import Examined
from threadwatch.model.view import ProcessView, ThreadView
from threadwatch.top.columns import Span
from threadwatch.top.detail import ASK_FOR_STACK, detail
from threadwatch.top.guide import guide
from threadwatch.top.history import Shares
from threadwatch.top.session import WHEEL, Session, SessionScreen
from threadwatch.top.widgets import Lines
from threadwatch.words.stack_text import frame_lines


class TextScreen(SessionScreen):
    """A screen of lines, scrollable if there are more than fit."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,backspace", "app.pop_screen"),
        Binding("up,k", "scroll_by(-1)"),
        Binding("down,j", "scroll_by(1)"),
        Binding("pageup", "page(-1)"),
        Binding("pagedown", "page(1)"),
        Binding("home,g", "scroll_by(-100000)"),
        Binding("end", "scroll_by(100000)"),
    ]

    keys: ClassVar[tuple[tuple[str, str], ...]] = ()
    """What other keys do, for the last line."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._first = 0

    def compose(self) -> ComposeResult:
        """Yield the text and the keys."""
        yield Lines(self.its.look, id="text")
        yield Lines(self.its.look, id="keys")

    def on_mount(self) -> None:
        """Show the text."""
        self.call_after_refresh(self.show)

    def on_resize(self) -> None:
        """Lay the text out anew."""
        self.call_after_refresh(self.show)

    def lines(self, columns: int) -> list[list[Span]]:
        """Return the lines."""
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
        for key, what in self.keys:
            keys += [Span(f"  {key}", "key"), Span(f" {what}", "dim")]
        if len(lines) > height:
            keys += [Span("  ↑ ↓", "key"), Span(" Scroll", "dim")]
        self.query_one("#keys", Lines).show([keys])

    def action_scroll_by(self, by: int) -> None:
        """Scroll up or down."""
        self._first = max(self._first + by, 0)
        self.show()

    def action_page(self, by: int) -> None:
        """Scroll by a screen."""
        self.action_scroll_by(by * max(self.query_one("#text").size.height - 1, 1))

    def on_mouse_scroll_down(self) -> None:
        """Scroll down."""
        self.action_scroll_by(WHEEL)

    def on_mouse_scroll_up(self) -> None:
        """Scroll up."""
        self.action_scroll_by(-WHEEL)


class HelpScreen(TextScreen):
    """Explains keys, bars and columns."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("f1,question_mark,h", "app.pop_screen")]

    def lines(self, columns: int) -> list[list[Span]]:  # noqa: ARG002  # it is as wide as it is
        """Return the guide."""
        return guide()


class DetailScreen(TextScreen):
    """Shows one thread."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("space", "pause"), Binding("s", "stack")]
    keys: ClassVar[tuple[tuple[str, str], ...]] = (("s", "Python stack"),)

    def __init__(self, session: Session, process: ProcessView, thread: ThreadView) -> None:
        super().__init__(session)
        self._process, self._thread = process, thread
        self._key = (process.key, thread.tid, thread.start_ticks)
        self._more: Examined | str = "…"
        self._history: Sequence[tuple[float, Shares]] = ()
        self._looking: threading.Thread | None = None
        self._stack: list[str] = [ASK_FOR_STACK]
        self._asking: threading.Thread | None = None

    def on_mount(self) -> None:
        """Examine the thread for the first time."""
        super().on_mount()
        self.look()

    def look(self) -> None:
        """Read what only this screen shows; in a thread, because the kernel may take long.

        The end of the application does not wait for that thread.
        """
        busy = self._looking is not None and self._looking.is_alive()
        if self.its.top.paused or busy:
            return
        loop = asyncio.get_running_loop()
        self._looking = threading.Thread(
            target=self._look, args=(loop,), name="examiner", daemon=True
        )
        try:
            self._looking.start()
        except RuntimeError as error:
            self._looking = None
            self._take(str(error))

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            more = self.its.source.examine(self._key)
        except Gone:
            more = "it has ended"
        with suppress(RuntimeError):  # the application has ended
            loop.call_soon_threadsafe(self._take, more)

    def action_stack(self) -> None:
        """Ask py-spy for the thread's Python stack: only when the user asks, because it stops the process."""
        if self._asking is not None and self._asking.is_alive():
            return
        self._take_stack(["…"])
        loop = asyncio.get_running_loop()
        self._asking = threading.Thread(target=self._ask, args=(loop,), name="py-spy", daemon=True)
        try:
            self._asking.start()
        except RuntimeError as error:
            self._asking = None
            self._take_stack([str(error)])

    def _ask(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            lines = frame_lines(self.its.source.stack(self._key))
            lines[0] += time.strftime("   (at %H:%M:%S)")
        except Unusable as error:
            lines = [str(error)]
        with suppress(RuntimeError):  # the application has ended
            loop.call_soon_threadsafe(self._take_stack, lines)

    def _take_stack(self, lines: list[str]) -> None:
        self._stack = lines
        if self.is_mounted:
            self.show()

    def _take(self, more: Examined | str) -> None:
        self._more = more
        if self.is_mounted:
            self.show()

    def lines(self, columns: int) -> list[list[Span]]:
        """Return the lines about the thread."""
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
            self._stack,
            gone=found is None,
            started=top.view.started(self._thread.start_ticks) if top.view else 0.0,
            uptime=top.uptime,
            columns=columns,
        )

    def action_pause(self) -> None:
        """Pause, or go on."""
        self.its.top.pause()
        self.show()
