"""What a benchmark found, as text for a terminal, as Markdown, and as JSON with every single value."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_WIDTH = 110


@dataclass(frozen=True, slots=True)
class Table:
    """Cells are text that is ready to be read; the first column says what a row is about."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What one benchmark found."""

    name: str
    what: str
    """What was measured, and how: paragraphs divided by empty lines."""
    tables: tuple[Table, ...]
    raw: Mapping[str, Any]
    """All values, as JSON can hold them."""
    missing: tuple[str, ...] = field(default=())
    """What could not be measured, and why."""
    plot: str = ""
    """An SVG file of it."""


def against(value: float, goal: float | None) -> str:
    """Return what to put behind a value that is to be at most ``goal``."""
    if goal is None:
        return ""
    return f" (goal {goal:g}: {'met' if value <= goal else 'missed'})"


def as_text(result: Result) -> str:
    """Return the report for a terminal."""
    parts = [f"== {result.name} ==", _wrapped(result.what)]
    parts += [_text_table(table) for table in result.tables]
    parts += [f"not measured: {line}" for line in result.missing]
    return "\n\n".join(parts) + "\n"


def as_markdown(result: Result, conditions: str, plot_name: str) -> str:
    """Return a section of a page of documentation; ``plot_name`` is where its plot is to be found."""
    parts = [f"## {result.name}", result.what, conditions]
    if result.plot:
        parts.append(f"![{result.tables[0].title}]({plot_name})")
    for table in result.tables:
        if len(result.tables) > 1:
            parts.append(f"### {table.title}")
        parts.append(markdown_table(table))
        parts += table.notes
    parts += [f"Not measured: {line}" for line in result.missing]
    return "\n\n".join(parts) + "\n"


def _wrapped(text: str) -> str:
    return "\n\n".join(textwrap.fill(part, _WIDTH) for part in text.split("\n\n"))


def _text_table(table: Table) -> str:
    rows = [table.columns, *table.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
    lines = [f"-- {table.title}"]
    for row in rows:
        cells = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines += [textwrap.indent(textwrap.fill(note, _WIDTH - 2), "  ") for note in table.notes]
    return "\n".join(lines)


def markdown_table(table: Table) -> str:
    """Return a table without its title."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    right = ["---", *["---:"] * (len(table.columns) - 1)]
    return "\n".join([line(table.columns), line(right), *(line(row) for row in table.rows)])
