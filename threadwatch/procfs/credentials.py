"""Parses the lines of ``/proc/PID/status`` (proc_pid_status(5)) that decide the kernel's access checks."""

from __future__ import annotations

from dataclasses import dataclass

from threadwatch.errors import Malformed
from threadwatch.procfs.fields import line, numbers

_IDS = 4
_HEX = frozenset(b"0123456789abcdefABCDEF")


@dataclass(frozen=True, slots=True)
class Credentials:
    """The facts by which one process may look into another (ptrace(2), credentials(7))."""

    uids: tuple[int, int, int, int]
    """Real, effective, saved, file system."""
    gids: tuple[int, int, int, int]
    permitted: int
    """Capabilities (capabilities(7)) that it may use: bit n is number n of linux/capability.h."""
    effective: int
    """The capabilities that are in force."""


def parse_credentials(data: bytes) -> Credentials:
    """Return the lines Uid, Gid, CapPrm and CapEff of status, or :class:`Malformed`."""
    return Credentials(
        uids=_ids(data, "Uid"),
        gids=_ids(data, "Gid"),
        permitted=_set(data, "CapPrm"),
        effective=_set(data, "CapEff"),
    )


def _ids(data: bytes, what: str) -> tuple[int, int, int, int]:
    found = numbers(
        line(data, what.encode("ascii") + b":\t", "status").split(b"\t"), "status", what
    )
    if len(found) != _IDS:
        raise Malformed("status", f"{what} should be four numbers, not {len(found)}")
    return found[0], found[1], found[2], found[3]


def _set(data: bytes, what: str) -> int:
    text = line(data, what.encode("ascii") + b":\t", "status")
    if len(text) != 16 or not _HEX.issuperset(text):
        raise Malformed("status", f"{what} should be 16 hexadecimal digits, not {text[:40]!r}")
    return int(text, 16)
