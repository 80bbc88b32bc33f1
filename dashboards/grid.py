"""Places panels on Grafana's grid of 24 columns, line by line."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

COLUMNS: Final = 24


class Grid:
    """Panels in the order in which they are read; every line fills all columns."""

    def __init__(self) -> None:
        self.panels: list[Json] = []
        self._into = self.panels
        self._y = 0
        self._next_heading: int | None = None
        self._count = 0

    def heading(self, title: str, *, collapsed: bool = False) -> None:
        """Begin a row; if it is collapsed, the panels up to the next row are inside of it."""
        if self._next_heading is not None:
            self._y = self._next_heading
        self._into = self.panels
        inside: list[Json] = []
        row = {"type": "row", "title": title, "collapsed": collapsed, "panels": inside}
        self._place(row, x=0, width=COLUMNS, height=1)
        self._y += 1
        # what is inside has the places that it gets when the row is opened
        self._next_heading = self._y if collapsed else None
        if collapsed:
            self._into = inside

    def line(self, height: int, *panels: Json | tuple[Json, int]) -> None:
        """Panels side by side: of the given widths, or else as wide as each other.

        :raises ValueError: they do not fill the line.
        """
        sized = [p if isinstance(p, tuple) else (p, COLUMNS // len(panels)) for p in panels]
        if sum(width for _, width in sized) != COLUMNS:
            raise ValueError(f"{[p['title'] for p, _ in sized]} do not fill {COLUMNS} columns")
        x = 0
        for panel, width in sized:
            self._place(panel, x=x, width=width, height=height)
            x += width
        self._y += height

    def _place(self, panel: Json, *, x: int, width: int, height: int) -> None:
        position = {"x": x, "y": self._y, "w": width, "h": height}
        self._count += 1
        self._into.append({"id": self._count, **panel, "gridPos": position})
