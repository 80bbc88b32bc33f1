"""Shows lines of text in a widget that draws only those that have changed."""

from __future__ import annotations

from collections.abc import Sequence

from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from threadwatch.top.columns import Span
from threadwatch.top.look import Look


class Lines(Widget):
    """As many lines as it is high; each is a list of spans, and never markup."""

    DEFAULT_CSS = "Lines { height: 1; }"

    def __init__(self, look: Look, **options: str) -> None:
        super().__init__(**options)  # type: ignore[arg-type]  # id and classes, which are strings
        self._look = look
        self._lines: list[tuple[list[Span], bool]] = []

    def show(self, lines: Sequence[list[Span]], *, cursor: int = -1) -> None:
        """Show these lines from now on; ``cursor``: the index of the line under the cursor."""
        fresh = [(line, number == cursor) for number, line in enumerate(lines)]
        old, self._lines = self._lines, fresh
        for y in range(max(len(old), len(fresh))):
            if old[y : y + 1] != fresh[y : y + 1]:
                self.refresh(Region(0, y, self.size.width, 1))

    def render_line(self, y: int) -> Strip:
        """Return one line, for the compositor."""
        width = self.size.width
        if y >= len(self._lines):
            return Strip.blank(width)
        line, cursor = self._lines[y]
        return Strip(self._look.segments(line, cursor=cursor)).adjust_cell_length(width)
