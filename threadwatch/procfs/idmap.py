"""``/proc/PID/uid_map`` and ``gid_map`` (user_namespaces(7); kernel/user_namespace.c)."""

from __future__ import annotations

from threadwatch.errors import Malformed
from threadwatch.procfs.fields import numbers

_UNMAPPED = 0xFFFFFFFF
"""What the kernel shows for an id that the reader's user namespace does not have: (uid_t) -1."""
_FIELDS = 3


def parse_root(data: bytes, source: str = "uid_map") -> int | None:
    """The id, as the reader knows it, of a user namespace's root; :class:`Malformed` for what is no map.

    Each line has an id inside, the one outside that it stands for, and for how many ids that goes on. None
    where the namespace has no root, or one that the reader's does not know.
    """
    for line in data.splitlines():
        fields = numbers(line.split(), source, "a range")
        if len(fields) != _FIELDS:
            raise Malformed(source, f"a range should be three numbers, not {len(fields)}")
        inside, outside, count = fields
        if inside == 0 and count and outside != _UNMAPPED:
            return outside
    return None
