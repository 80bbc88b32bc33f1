"""Finds the task that runs in a loop, up to 3.13, where a dict of asyncio has it by its loop."""

from __future__ import annotations

from threadwatch.names.memory.objects import KEYS_HEAD, parse_keys
from threadwatch.names.memory.offsets import Offsets
from threadwatch.names.memory.snapshot import PAGE, Memory, word
from threadwatch.tasks.layout import malformed
from threadwatch.tasks.places import Places

_SMALL_DICT = 224
"""Bytes that are read of a dict's keys at first: as many as five entries take."""
_MOST_CURRENT = 4096
"""Loops that run at the same time."""


def current_task(memory: Memory, o: Offsets, places: Places, loop: int) -> int:
    """Return the task that runs in a loop, by the dict of current tasks; 0: none does.

    :raises Gone: the program has ended.
    :raises ReadError: the dict changes just now.
    """
    start = places.current_tasks + o.object_size
    head = memory.read(start, o.ma_keys + 8 - o.object_size)
    if not word(head, 0):
        return 0
    keys = word(head, o.ma_keys - o.object_size)
    data = memory.read(keys, max(min(_SMALL_DICT, PAGE - keys % PAGE), KEYS_HEAD))
    layout = parse_keys(o, data)
    if layout.count > _MOST_CURRENT:
        raise malformed(f"{layout.count} tasks are current")
    if layout.end > len(data):
        data = memory.read(keys, layout.end)
    for key, task in layout.pairs(data[layout.entries : layout.end]):
        if key == loop:
            return task
    return 0
