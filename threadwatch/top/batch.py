"""Prints rows as plain text, for pipes and files."""

from __future__ import annotations

import time
from collections.abc import Iterator

from threadwatch.top.columns import PLAIN_WIDTH, Span, layout
from threadwatch.top.model import Top
from threadwatch.top.title import figures, nothing, place


def batch(top: Top, *, where: str, columns: int | None) -> Iterator[str]:
    """Yield the lines of one view: a headline, the sums, and the whole list."""
    if top.view is None:
        return
    width = columns or PLAIN_WIDTH
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(top.view.time))
    yield f"threadwatch  {place(top, where)}  {clock}"
    number = len(top.rows)
    yield _text(figures(top, notes="", shown=(0, number), columns=width))
    yield ""
    if not number:
        yield nothing(top)[0]
        return
    chosen = layout(width, top.known, top.shape.sort.column)
    uptime = top.uptime
    yield _text(chosen.head(top.shape.sort, reverse=top.shape.reverse))
    for row in top.rows:
        yield _text(chosen.cells(row, top.history.together(row.timed, row.whole), uptime))


def _text(line: list[Span]) -> str:
    return "".join(span.text for span in line).rstrip()
