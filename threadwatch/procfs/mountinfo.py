"""Parses ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)): the options of a mounted file system."""

from __future__ import annotations

import re
from dataclasses import dataclass

from threadwatch.errors import Malformed

_ESCAPED = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """The file system that is mounted at one place."""

    kind: str
    """``proc``, ``tmpfs`` …"""
    options: tuple[str, ...]
    """The options of this mount, then those of the file system: ``rw``, ``relatime``,
    ``hidepid=invisible`` …"""


def parse_mountinfo(data: bytes, place: str) -> Mount | None:
    """Return the mount at ``place`` itself (an absolute path without links), or raise :class:`Malformed`.

    None if nothing is mounted there. Of several mounts, the last one hides the others.
    """
    found = None
    for text in data.splitlines():
        fields = text.split(b" ")
        try:
            end = fields.index(b"-", 6)
            kind, _, options = fields[end + 1 : end + 4]
        except ValueError:
            raise Malformed(
                "mountinfo", f"should have a dash and three fields behind it, not {text[:100]!r}"
            ) from None
        if _plain(fields[4]) == place:
            found = Mount(_plain(kind), (*_split(fields[5]), *_split(options)))
    return found


def _split(options: bytes) -> list[str]:
    return _plain(options).split(",")


def _plain(field: bytes) -> str:
    """Return a field with the kernel's escapes of blanks and backslashes undone."""
    raw = _ESCAPED.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field)
    return raw.decode("utf-8", "surrogateescape")
