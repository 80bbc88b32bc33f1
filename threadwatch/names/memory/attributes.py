"""Finds the attributes of objects of classes: in a dict, or in places that the class numbers.

CPython, Objects/dictobject.c and Include/internal/pycore_dict.h. Up to 3.10 each object has a dict, which can
share its keys with others of the class. 3.11 and 3.12 have the values, or the dict, in front of the object,
3.13 and later behind it.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from threadwatch.errors import Malformed
from threadwatch.names.memory.objects import Keys
from threadwatch.names.memory.offsets import HEAP_TYPE, INLINE_VALUES, MANAGED_DICT
from threadwatch.names.memory.snapshot import SOURCE, Snapshot
from threadwatch.names.memory.walk import Dicts, Python

_LARGEST_OBJECT = 1 << 16


class Reads(Protocol):
    """Reads of memory: by a snapshot, or by what notes them."""

    def read(self, address: int, size: int) -> bytes:
        """Return the bytes from there. Raises Gone or ReadError, as the others do."""

    def word(self, address: int) -> int:
        """Return the 8 bytes there as a number."""

    def words(self, address: int, count: int) -> tuple[int, ...]:
        """Return this many words from there."""


class ValuePlace(NamedTuple):
    """The place of the address of an attribute's value."""

    at: int
    key_at: int
    """Where the address of its key is."""
    key: int
    """That address: another there means that the attributes have changed."""


class Attributes:
    """The attributes with certain names of objects of any classes, in one snapshot."""

    def __init__(self, memory: Snapshot, python: Python, names: frozenset[bytes]) -> None:
        self._memory = memory
        self._python = python
        self._dicts = Dicts(memory, python)
        self._names = names
        self._classes: dict[int, tuple[int, int, int, int]] = {}
        self._known: dict[int, tuple[Keys, dict[bytes, tuple[int, int]]]] = {}

    def places(self, walk: Reads, address: int) -> dict[bytes, ValuePlace]:
        """Return the places of all those attributes of an object.

        :raises Gone: the program has ended.
        :raises ReadError: it is no such object, or lacks one of them.
        """
        o = self._python.offsets
        flags, size, dict_offset, shared = self._class(walk.word(address + o.ob_type))
        a_dict = values = 0
        if o.minor <= 10 or not flags & MANAGED_DICT:
            if not 0 < dict_offset < size:
                raise Malformed(SOURCE, "an object has no attributes")
            a_dict = walk.word(address + dict_offset)
        elif o.minor == 11:
            values, a_dict = walk.words(address - 32, 2)
        elif o.minor == 12:
            a_dict = walk.word(address - 24)
            if a_dict & 1:
                values, a_dict = a_dict + 1, 0
        else:
            a_dict = walk.word(address + o.managed_dict)
            if not a_dict:
                if not flags & INLINE_VALUES or walk.read(address + size + 3, 1) != b"\1":
                    raise Malformed(SOURCE, "an object has no attributes")
                values = address + size + 8
        keys = shared
        if a_dict and not values:
            if walk.word(a_dict + o.ob_type) != self._python.dict_type:
                raise Malformed(SOURCE, "an object's attributes are in no dict")
            keys, values = walk.words(a_dict + o.ma_keys, 2)
            if values and o.minor >= 13:
                values += 8
        layout, found = self._keys(keys)
        return {
            # of a dict of its own, the value follows the key
            name: ValuePlace(
                values + 8 * number if values else keys + layout.key(number) + 8,
                keys + layout.key(number),
                key,
            )
            for name, (number, key) in found.items()
        }

    def _class(self, address: int) -> tuple[int, int, int, int]:
        """Flags, size of its objects, where they have their dict, and the keys that they share."""
        known = self._classes.get(address)
        if known is None:
            o, read = self._python.offsets, self._memory.word
            flags, size = read(address + o.tp_flags), read(address + o.tp_basicsize)
            if not flags & HEAP_TYPE or not o.object_size <= size < _LARGEST_OBJECT:
                raise Malformed(SOURCE, "an object is of no class")
            known = flags, size, read(address + o.tp_dictoffset), read(address + o.cached_keys)
            self._classes[address] = known
        return known

    def _keys(self, keys: int) -> tuple[Keys, dict[bytes, tuple[int, int]]]:
        """Return how those keys are laid out; by attribute the number of its entry, and its key's address."""
        known = self._known.get(keys)
        if known is None:
            found = self._dicts.find(keys, self._names)
            if len(found) != len(self._names):
                raise Malformed(SOURCE, "an object lacks an attribute")
            known = self._known[keys] = self._dicts.keys(keys), found
        return known
