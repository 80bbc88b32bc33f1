"""What the terminal application and all its screens share, and the screen that they are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.screen import Screen

from threadwatch.top.look import Look
from threadwatch.top.model import Top
from threadwatch.top.source import Source

WHEEL = 3
"""Rows that a turn of the mouse's wheel is."""


@dataclass(slots=True)
class Session:
    """What is looked at, where it comes from, and how it is drawn."""

    source: Source
    top: Top
    look: Look
    interval: float
    """Seconds between two views."""
    trouble: str = ""
    """Why there is no newer view; empty if there is one."""


class SessionScreen(Screen[None]):
    """A screen of this application."""

    AUTO_FOCUS: ClassVar[str | None] = ""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.its = session

    def show(self) -> None:
        """Draw what has changed."""
        raise NotImplementedError
