"""Holds what all screens of the terminal application share, and their base class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.screen import Screen

from threadwatch.top.look import Look
from threadwatch.top.model import Top
from threadwatch.top.source import Source

WHEEL = 3
"""Rows per turn of the mouse's wheel."""


@dataclass(slots=True)
class Session:
    """The processes to show, the source of their views, and the way to draw them."""

    source: Source
    top: Top
    look: Look
    interval: float
    """Seconds between two views."""
    trouble: str = ""
    """Why there is no newer view; empty if there is one. Written by :mod:`threadwatch.top.app`."""


class SessionScreen(Screen[None]):
    """A screen of this application."""

    AUTO_FOCUS: ClassVar[str | None] = ""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.its = session

    def show(self) -> None:
        """Draw what has changed."""
        raise NotImplementedError
