"""Checks whether the maker of a thread table may speak for the process that has it open.

The maker of a file is its owner for good, and a process can change its user. So the check is made
when a table is judged, with the process as it is then. See
docs/decisions/0022-facts-that-can-change.md.
"""

from __future__ import annotations

from threadwatch.errors import Denied, Gone, Malformed
from threadwatch.procfs import (
    ClockOffsets,
    ProcessDir,
    TableFile,
    parse_clock_offsets,
    parse_root,
    parse_status,
)
from threadwatch.procfs.own import own_link, read_own

NO_OFFSETS = ClockOffsets()


def check_owner(process: ProcessDir, file: TableFile) -> None:
    """Raise Malformed unless a user that may speak for the process has made the table.

    These users are: root; the process's effective, saved or file system user, under which it can
    have made files itself (credentials(7)); and the root of its user namespace, as which programs
    in containers begin before they become another user. The real user does not count: a user who
    starts a set-user-ID program stays its real user, and can leave a table open for it.

    :raises Malformed: another user has made it.
    :raises Gone: the process has ended.
    """
    owner = file.owner_uid
    if not owner:
        return
    users = parse_status(process.read("status", "status")).uids[1:]
    if owner in users or owner == _namespace_root(process):
        return
    known = " or ".join(map(str, dict.fromkeys((*users, 0))))
    raise Malformed("table", f"belongs to uid {owner}, not {known}")


def clocks_ahead(process: ProcessDir) -> ClockOffsets:
    """Return how far the process's clocks are ahead of ours: not 0 in a time namespace.

    The kernel tells the namespace of its children, which is its own from its exec on.

    :raises Gone: the process has ended.
    """
    own = read_own("timens_offsets")
    try:
        theirs = process.read("timens_offsets", "timens_offsets")
        there, here = parse_clock_offsets(theirs), parse_clock_offsets(own) if own else NO_OFFSETS
        return ClockOffsets(
            there.monotonic_ns - here.monotonic_ns, there.boottime_ns - here.boottime_ns
        )
    except Gone:
        process.owner_uid()  # has it ended? Else the kernel has no time namespaces
        return NO_OFFSETS


def _namespace_root(process: ProcessDir) -> int | None:
    """Return the root of the process's user namespace, as we see it; None if ours, or if it has none."""
    try:
        uid_map = process.read("uid_map", "uid_map")
        # In our own namespace, uid_map has ids of the one around it.
        if _is_in_our_namespace(process, uid_map):
            return None
        return parse_root(uid_map)
    except Gone:
        process.owner_uid()  # has it ended? Else the kernel has no user namespaces
        return None


def _is_in_our_namespace(process: ProcessDir, uid_map: bytes) -> bool:
    """Return whether the process is in our user namespace, or may be in it."""
    try:
        return process.namespace("user") == own_link("ns/user")
    except Denied:  # other users' namespaces are hidden, their maps are not: different ones tell
        return uid_map == read_own("uid_map")
