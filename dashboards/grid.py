"""Places panels on Grafana's grid of 24 columns, line by line."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

COLUMNS: Final = 24


class Grid:
    """Panels in the order in which they are read; every line fills all columns."""

    def __init__(self) -> None:
        self.panels: list[Json] = []
        self._y = 0

    def heading(self, title: str) -> None:
        """Add a line of its own with a title."""
        row = {"type": "row", "title": title, "collapsed": False, "panels": []}
        self._place(row, x=0, width=COLUMNS, height=1)
        self._y += 1

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
        self.panels.append({"id": len(self.panels) + 1, **panel, "gridPos": position})
