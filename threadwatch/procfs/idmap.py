"""Parses ``/proc/PID/uid_map`` and ``gid_map`` (user_namespaces(7); kernel/user_namespace.c)."""

from __future__ import annotations

from threadwatch.errors import Malformed
from threadwatch.procfs.fields import numbers

_UNMAPPED = 0xFFFFFFFF
"""What the kernel shows for an id that is not in the reader's user namespace: (uid_t) -1."""
_FIELDS = 3


def parse_root(data: bytes, source: str = "uid_map") -> int | None:
    """Return the id of a user namespace's root, as the reader sees it, or raise :class:`Malformed`.

    Each line has an id inside, the id outside that it stands for, and the number of ids for which
    that continues. None: the namespace has no root, or one that the reader's namespace does not
    have.
    """
    for line in data.splitlines():
        fields = numbers(line.split(), source, "a range")
        if len(fields) != _FIELDS:
            raise Malformed(source, f"a range should be three numbers, not {len(fields)}")
        inside, outside, count = fields
        if inside == 0 and count and outside != _UNMAPPED:
            return outside
    return None
