"""Decides which groups there is room for: processes choose their names, and some choose very many.

Rules:

* A group with a fixed name in the configuration always has a place: their number is limited.
* All other groups together have :data:`MOST_GROUPS` places, including those that have had a process
lately; the groups that one user's processes began have at most :data:`SHARE` of them.
* If a place is wanted and none is left, a group without processes is dropped before its time: one
of the same user if that user has the full share, else one of the user with the most groups. The
group that has been empty for longest is dropped.
"""

from __future__ import annotations

from collections import Counter

from threadwatch.accounting.group import Group

MOST_GROUPS = 1000
"""Groups at one time, beside those with fixed names."""
SHARE = MOST_GROUPS // 2
"""Groups of one user's at one time."""


def make_room(groups: dict[str, Group], owner: int) -> bool:
    """Return whether there is room for one more group of this user's; one may have to leave for it."""
    owned = [group for group in groups.values() if group.owner is not None]
    counts = Counter(group.owner for group in owned)
    if counts[owner] < SHARE and len(owned) < MOST_GROUPS:
        return True
    empty = [group for group in owned if not group.processes]
    if counts[owner] >= SHARE:
        empty = [group for group in empty if group.owner == owner]
    if not empty:
        return False
    leaves = max(empty, key=lambda group: (counts[group.owner], -group.empty_since_ns))
    del groups[leaves.name]
    return True
