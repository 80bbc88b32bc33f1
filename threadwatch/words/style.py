"""Chooses the style of text on standard output: with colours or without, and its width."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from typing import Self

_WIDEST = 100
"""Columns of running text at most."""


@dataclass(frozen=True, slots=True)
class Style:
    """The style of the text: colours, and width."""

    color: bool
    columns: int | None
    """The terminal's width; None: there is no terminal."""

    @classmethod
    def of_stdout(cls) -> Self:
        """Return the style that fits standard output; ``NO_COLOR`` and ``TERM=dumb`` ask for no colours."""
        terminal = sys.stdout.isatty()
        return cls(
            color=terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
            columns=shutil.get_terminal_size().columns if terminal else None,
        )

    @property
    def text_columns(self) -> int:
        """Return the width of running text."""
        return _WIDEST if self.columns is None else max(min(self.columns, _WIDEST), 40)

    def bold(self, text: str) -> str:
        """Return a heading."""
        return f"\x1b[1m{text}\x1b[0m" if self.color else text

    def bad(self, text: str) -> str:
        """Return a text that marks a problem."""
        return f"\x1b[31m{text}\x1b[0m" if self.color else text

    def good(self, text: str) -> str:
        """Return a text that marks success."""
        return f"\x1b[32m{text}\x1b[0m" if self.color else text
