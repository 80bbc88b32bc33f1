"""Reads the entries of one dict ``threading._active``, and which of them are new or gone.

The bytes that were read are kept: the same bytes again mean that nothing has changed. Where some have, only
the entries around those are taken apart, so a thread that starts among thousands costs little.
"""

from __future__ import annotations

from threadwatch.errors import Malformed, ReadError
from threadwatch.names.memory.chain import Entry
from threadwatch.names.memory.objects import KEYS_HEAD, Keys, parse_keys
from threadwatch.names.memory.snapshot import SOURCE, Memory, Place, word
from threadwatch.names.memory.walk import Python

TRIES = 3

_ENTRIES_OF_A_THREAD = 8
_ENTRIES = 4096
"""How many entries ``threading._active`` may have, and more by those of each thread: greenlets have some."""
_PIECE = 32
"""Entries that are taken apart together."""
_NONE: frozenset[Entry] = frozenset()


class Entries:
    """The entries of one dict ``threading._active``."""

    __slots__ = ("_active", "_contents", "_layout", "_now", "_places", "_python")

    def __init__(self, python: Python, active: int) -> None:
        self._python = python
        self._active = active
        self._places: tuple[Place, ...] = ()
        """Of the dict, and of its keys."""
        self._contents: tuple[bytes, ...] = ()
        self._layout: Keys | None = None
        """How the keys are laid out whose bytes those are."""
        self._now: set[Entry] = set()
        """The entries, as they were read last."""

    @property
    def known(self) -> bool:
        """Return whether they have been read."""
        return bool(self._places)

    def read(self, memory: Memory, threads: int) -> tuple[frozenset[Entry], frozenset[Entry]]:
        """Return the entries that are gone and those that are new since the last time.

        ``threads``: how many the process has.

        :raises Gone: the program has ended.
        :raises ReadError: it is no such dict, or changes too fast; the next reading tells what is missed now.
        """
        if self._places and tuple(memory.read_each(self._places)) == self._contents:
            return _NONE, _NONE
        o = self._python.offsets
        head = (self._active + o.ob_type, o.ma_values + 8 - o.ob_type)
        for _ in range(TRIES):
            keys = word(memory.read(*head), o.ma_keys - o.ob_type)
            try:
                layout = parse_keys(o, memory.read(keys, KEYS_HEAD))
            except ReadError:
                continue  # it has others by now
            if layout.count > _ENTRIES + _ENTRIES_OF_A_THREAD * threads:
                raise Malformed(
                    SOURCE, f"threading._active has {layout.count} entries for {threads} threads"
                )
            places = head, (keys, max(layout.end, KEYS_HEAD))
            contents = tuple(memory.read_each(places))
            changes = self._parse(places, contents, layout)
            if changes is not None and tuple(memory.read_each(places)) == contents:
                gone, new = changes
                self._now -= gone
                self._now |= new
                self._places, self._contents, self._layout = places, contents, layout
                return changes
        raise Malformed(SOURCE, "threading._active changes faster than it can be read")

    def _parse(
        self, places: tuple[Place, ...], contents: tuple[bytes, ...], layout: Keys
    ) -> tuple[frozenset[Entry], frozenset[Entry]] | None:
        """Return which entries are gone and new by the bytes of a dict's head and keys.

        None: those are not of one time.
        """
        head, keys = contents
        o = self._python.offsets
        try:
            if not head or parse_keys(o, keys) != layout:
                return None
        except Malformed:
            return None
        if word(head, 0) != self._python.dict_type or word(head, o.ma_values - o.ob_type):
            raise Malformed(SOURCE, "threading._active is no dict")
        before = self._layout
        if before is not None and self._places[1][0] == places[1][0] and before.is_like(layout):
            gone, new = _compare(self._contents[1], before, keys, layout)
        else:
            now = _entries(keys[layout.entries : layout.end], layout)
            gone, new = frozenset(self._now - now), frozenset(now - self._now)
        # ma_used follows the object's head
        used = len(self._now) - len(gone) + len(new)
        return (gone, new) if used == word(head, o.object_size - o.ob_type) else None


def _compare(
    old: bytes, before: Keys, data: bytes, layout: Keys
) -> tuple[frozenset[Entry], frozenset[Entry]]:
    """Return which entries of the same keys are gone and new."""
    gone: set[Entry] = set()
    new: set[Entry] = set()
    step = _PIECE * layout.size
    old, data = old[: before.end], data[: layout.end]
    for at in range(layout.entries, max(before.end, layout.end), step):
        piece, now = old[at : at + step], data[at : at + step]
        if piece != now:
            gone |= _entries(piece, layout)
            new |= _entries(now, layout)
    return frozenset(gone - new), frozenset(new - gone)


def _entries(data: bytes, layout: Keys) -> set[Entry]:
    """Return the entries in those bytes; what was deleted is empty."""
    return {pair for pair in layout.pairs(data) if pair[0] and pair[1]}
