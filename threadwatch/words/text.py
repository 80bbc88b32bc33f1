"""Makes text safe for terminals: names from targets can neither send commands nor break the columns."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """Return ``text`` with controls, overrides and newlines escaped: whatever would not show as itself."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def width(text: str) -> int:
    """Return how many columns ``text`` takes in a terminal (Unicode TR11 for wide characters)."""
    if text.isascii():
        return len(text)
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """Return ``text`` filled up with spaces; with the text on the right if ``right``."""
    if text.isascii():
        return text.rjust(columns) if right else text.ljust(columns)
    spaces = " " * max(columns - width(text), 0)
    return spaces + text if right else text + spaces


def cut(text: str, columns: int) -> str:
    """Return ``text``, or its beginning and an ellipsis where it is wider than ``columns``."""
    if width(text) <= columns:
        return text
    used = 1
    kept = []
    for character in text:
        used += _width(character)
        if used > columns:
            break
        kept.append(character)
    return "".join(kept) + "…"


def cut_middle(text: str, columns: int) -> str:
    """Return ``text``, or its beginning and end where it is too wide: ``ThreadPool…or-0_12``.

    Meant for names that differ at the end.
    """
    if width(text) <= columns:
        return text
    tail = ""
    room = columns // 3
    for character in reversed(text):
        room -= _width(character)
        if room < 0:
            break
        tail = character + tail
    return cut(text, columns - width(tail)) + tail
