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
        self._drawn: dict[int, Strip] = {}
        """The lines that have been drawn, in the present width."""
        self._width = 0

    def show(self, lines: Sequence[list[Span]], *, cursor: int = -1) -> None:
        """Show these lines from now on; ``cursor``: the index of the line under the cursor."""
        fresh = [(line, number == cursor) for number, line in enumerate(lines)]
        old, self._lines = self._lines, fresh
        for y in range(max(len(old), len(fresh))):
            if old[y : y + 1] != fresh[y : y + 1]:
                self._drawn.pop(y, None)
                self.refresh(Region(0, y, self.size.width, 1))

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return the lines in ``crop``. They have no border, tint or filter, so that none is looked for."""
        width = self.size.width
        if width != self._width:
            self._drawn.clear()
            self._width = width
        drawn = self._drawn
        for y in crop.line_range:
            if y not in drawn:
                drawn[y] = self.render_line(y)
        strips = [drawn[y] for y in crop.line_range]
        first, end = crop.column_span
        return strips if (first, end) == (0, width) else [one.crop(first, end) for one in strips]

    def render_line(self, y: int) -> Strip:
        """Return one line."""
        width = self.size.width
        if y >= len(self._lines):
            return Strip.blank(width)
        line, cursor = self._lines[y]
        return Strip(self._look.segments(line, cursor=cursor)).adjust_cell_length(width)
