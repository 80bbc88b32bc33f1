"""Runs the terminal application: reads views in a thread, and draws them on the current screen."""

from __future__ import annotations

import asyncio
import signal
import threading
from functools import partial
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen

from threadwatch.errors import Unusable
from threadwatch.model.view import View
from threadwatch.top.list_screen import ListScreen
from threadwatch.top.look import Look
from threadwatch.top.model import Top
from threadwatch.top.session import Session, SessionScreen
from threadwatch.top.source import Source
from threadwatch.top.text_screens import DetailScreen


class Polled(Message):
    """A view has arrived."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view


class Failed(Message):
    """No view has arrived."""

    def __init__(self, why: str) -> None:
        super().__init__()
        self.why = why


class TopApp(App[str | None]):
    """The application; its result is a line that says why it ended early, or None."""

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
        self.session = Session(source, top, Look(colors=colors), interval)
        self._stop = threading.Event()
        self._reader = threading.Thread(target=self._read, name="poller", daemon=True)

    def get_default_screen(self) -> Screen[None]:
        """Return the list."""
        return ListScreen(self.session)

    def on_mount(self) -> None:
        """Begin to read."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, partial(self.exit, None))
        self._reader.start()

    def on_unmount(self) -> None:
        """Stop reading."""
        self._stop.set()

    def close(self) -> None:
        """Wait until the reading thread has ended, and close everything."""
        self._stop.set()
        if self._reader.ident is not None:
            self._reader.join(timeout=2)
        if not self._reader.is_alive():
            self.session.source.close()

    def _read(self) -> None:
        """Read views in a thread of its own, so that a slow read does not delay keys."""
        while not self._stop.is_set():
            try:
                view = self.session.source.next(self._stop.wait)
            except Unusable as error:
                self.post_message(Failed(str(error)))
                self._stop.wait(self.session.interval)
                continue
            if view is not None:
                self.post_message(Polled(view))

    def on_polled(self, message: Polled) -> None:
        """Show a view."""
        self.session.trouble = ""
        try:
            self.session.top.take(message.view)
        except Unusable as error:
            self.exit(str(error))
            return
        self.show()
        if isinstance(self.screen, DetailScreen):
            self.screen.look()

    def on_failed(self, message: Failed) -> None:
        """Say that the view on the screen is old."""
        self.session.trouble = message.why
        self.show()

    def show(self) -> None:
        """Bring the current screen up to date."""
        if isinstance(self.screen, SessionScreen):
            self.screen.show()
