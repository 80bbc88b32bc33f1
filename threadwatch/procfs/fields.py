"""Parses what several files have in common: strict decimal numbers, and lines that begin with a key.

The kernel writes plain ASCII digits. ``int()`` accepts more than that (``+1``, ``1_0``, blanks), so
the digits are checked before.
"""

from __future__ import annotations

from threadwatch.errors import Malformed

_LONGEST = 20
"""Digits of the largest number that the kernel writes, 2⁶⁴ - 1."""


def number(field: bytes, source: str, what: str) -> int:
    """Return a decimal number of the kernel; ``what`` names it in the message of :class:`Malformed`."""
    if not field.isdigit() or len(field) > _LONGEST:
        raise Malformed(source, f"{what} should be a decimal number, not {field[:40]!r}")
    return int(field)


def numbers(fields: list[bytes], source: str, what: str) -> tuple[int, ...]:
    """Return the number in each of the fields, as :func:`number` does."""
    return tuple(number(field, source, what) for field in fields)


def find_line(data: bytes, key: bytes) -> bytes | None:
    r"""Return what follows ``key`` in the first line that begins with it, or None.

    ``key`` includes the separator: ``b"Uid:\t"``. A last line without its newline was cut in the
    middle of a read, perhaps inside a number, and does not count.
    """
    if data.startswith(key):
        begin = len(key)
    else:
        found = data.find(b"\n" + key)
        if found < 0:
            return None
        begin = found + 1 + len(key)
    end = data.find(b"\n", begin)
    return None if end < 0 else data[begin:end]


def line(data: bytes, key: bytes, source: str) -> bytes:
    """Return the line that :func:`find_line` finds, or raise :class:`Malformed`."""
    rest = find_line(data, key)
    if rest is None:
        raise Malformed(source, f"no line {key.decode('ascii').strip()}")
    return rest
