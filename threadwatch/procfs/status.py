"""Parses ``/proc/PID/status`` and ``/proc/PID/task/TID/status`` (proc_pid_status(5))."""

from __future__ import annotations

import re
from dataclasses import dataclass

from threadwatch.errors import Malformed
from threadwatch.procfs.fields import find_line, line, number, numbers

_IDS = 4
_LEFT = re.compile(
    rb"\nvoluntary_ctxt_switches:\t([0-9]{1,20})\nnonvoluntary_ctxt_switches:\t([0-9]{1,20})\n"
)


@dataclass(frozen=True, slots=True)
class Status:
    """The lines of status that are used."""

    uids: tuple[int, int, int, int]
    """Real, effective, saved, file system."""
    nspid: tuple[int, ...]
    """The PID (of a task: the TID) in each PID namespace from the reader's inwards; the last one is
    what the process itself sees. Empty on a kernel without NSpid (before 4.1)."""
    voluntary_switches: int | None
    """Context switches of this one thread, not of the process; None where the kernel has none."""
    involuntary_switches: int | None


def parse_status(data: bytes) -> Status:
    """Return the lines of status that are used, or :class:`Malformed`.

    Name is the only line that a target can choose. The kernel escapes newlines in it, so it cannot
    imitate another line.
    """
    if not data.startswith(b"Name:\t"):
        raise Malformed("status", f"should begin with a line Name:, not {data[:40]!r}")
    if not data.endswith(b"\n"):
        raise Malformed("status", f"should end with a whole line, not {data[-40:]!r}")
    uids = numbers(line(data, b"Uid:\t", "status").split(b"\t"), "status", "Uid")
    if len(uids) != _IDS:
        raise Malformed("status", f"Uid should be four numbers, not {len(uids)}")
    nspid = find_line(data, b"NSpid:\t")
    return Status(
        uids=(uids[0], uids[1], uids[2], uids[3]),
        nspid=() if nspid is None else numbers(nspid.split(b"\t"), "status", "NSpid"),
        voluntary_switches=_switches(data, b"voluntary_ctxt_switches:\t"),
        involuntary_switches=_switches(data, b"nonvoluntary_ctxt_switches:\t"),
    )


def parse_switches(data: bytes) -> tuple[bool, int]:
    """Return whether a thread is on a CPU or ready to run, and how often it has left a CPU in its life.

    :raises Malformed: a line is missing, or is not what it should be.
    """
    state = data.find(b"\nState:\t")
    left = _LEFT.search(data)
    if state < 0 or left is None:
        raise Malformed("status", f"should have lines State and ctxt_switches, not {data[:40]!r}")
    return data[state + 8 : state + 9] == b"R", int(left[1]) + int(left[2])


def _switches(data: bytes, key: bytes) -> int | None:
    rest = find_line(data, key)
    return None if rest is None else number(rest, "status", key[:-2].decode("ascii"))
