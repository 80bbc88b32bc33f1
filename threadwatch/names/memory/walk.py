"""Walks the Python that was found in a process: its interpreters, thread states, dicts and ints.

:mod:`.interpreter` finds it. Nothing is believed beyond what the proof of a :class:`Python` says: every list
has an end, and the type of each object is compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from threadwatch.errors import Malformed
from threadwatch.names.memory.objects import (
    KEYS_HEAD,
    Keys,
    int_digits,
    parse_digits,
    parse_keys,
)
from threadwatch.names.memory.offsets import Offsets
from threadwatch.names.memory.snapshot import SOURCE, Snapshot, word

MOST_INTERPRETERS = 256
MOST_STATES = 1 << 16
_SHORT = 32
"""Characters of the names of attributes, modules and types, at most."""


@dataclass(frozen=True, slots=True)
class Python:
    """A Python that has been found, and proven to be what it seems."""

    offsets: Offsets
    runtime: int
    hexversion: int
    dict_type: int
    str_type: int
    int_type: int
    module_type: int
    tid_offset: int
    """Where the C library has a thread's TID, from its ident (pthread_self(3)) on; 0 unknown."""
    points_to_itself: bool
    """What an ident points to begins with a pointer to itself."""


def interpreters(memory: Snapshot, python: Python) -> list[int]:
    """Return the addresses of the interpreters' states, the newest first, the main one last."""
    found: list[int] = []
    at = memory.word(python.runtime + python.offsets.interpreters)
    while at:
        if at % 8 or at in found or len(found) >= MOST_INTERPRETERS:
            raise Malformed(SOURCE, "the list of interpreters has no end")
        found.append(at)
        at = memory.word(at + python.offsets.next_interpreter)
    return found


def thread_states(memory: Snapshot, python: Python, interpreter: int) -> dict[int, tuple[int, int]]:
    """Return by ident: a thread's TID, 0 where it is not told, and the address of its state."""
    o = python.offsets
    span = max(o.ident, o.native, o.state_interpreter, o.next_state) + 8
    found: dict[int, tuple[int, int]] = {}
    at = memory.word(interpreter + o.states)
    for _ in range(MOST_STATES):
        if not at:
            return found
        data = memory.read(at, span)
        if word(data, o.state_interpreter) != interpreter:
            raise Malformed(SOURCE, "a thread state is of another interpreter")
        native = word(data, o.native) if o.native else 0
        found[word(data, o.ident)] = native, at
        at = word(data, o.next_state)
    raise Malformed(SOURCE, "the list of thread states has no end")


class Dicts:
    """Dicts and what is in them, in one snapshot."""

    def __init__(self, memory: Snapshot, python: Python) -> None:
        self._memory = memory
        self._python = python

    def keys(self, address: int) -> Keys:
        """Return how the keys at an address are laid out."""
        return parse_keys(self._python.offsets, self._memory.read(address, KEYS_HEAD))

    def keys_of(self, a_dict: int) -> int:
        """Return where a dict's keys are, which is no object's own: of those, the values are elsewhere."""
        o = self._python.offsets
        if self._memory.word(a_dict + o.ob_type) != self._python.dict_type:
            raise Malformed(SOURCE, "what should be a dict is none")
        if self._memory.word(a_dict + o.ma_values):
            raise Malformed(SOURCE, "a module's dict is an object's")
        return self._memory.word(a_dict + o.ma_keys)

    def find(self, keys: int, names: frozenset[bytes]) -> dict[bytes, tuple[int, int]]:
        """Return, of those names among the keys, the number of the entry and the address of its key."""
        layout = self.keys(keys)
        data = self._memory.read(keys + layout.entries, layout.count * layout.size)
        found: dict[bytes, tuple[int, int]] = {}
        for number, (key, _) in enumerate(layout.pairs(data)):
            if key and (text := self.short(key)) is not None and text in names:
                found[text] = number, key
                if len(found) == len(names):
                    break
        return found

    def values(self, a_dict: int, names: frozenset[bytes]) -> dict[bytes, tuple[int, int]]:
        """Return, of those names in a module's dict, the place of the value's address, and that address."""
        keys = self.keys_of(a_dict)
        layout = self.keys(keys)
        found = {}
        for text, (number, _) in self.find(keys, names).items():
            place = keys + layout.key(number) + 8
            value = self._memory.word(place)
            if value:
                found[text] = place, value
        return found

    def short(self, address: int) -> bytes | None:
        """Return the characters of a str that is short, as those of attributes and modules are; else None."""
        python, read = self._python, self._memory.read
        o = python.offsets
        head = read(address + o.ob_type, o.str_length + 8 - o.ob_type)
        length = word(head, o.str_length - o.ob_type)
        if length > _SHORT or (python.str_type and word(head, 0) != python.str_type):
            return None
        return read(address + o.ascii_size, length)


def read_int(memory: Snapshot, python: Python, address: int) -> int:
    """Return the value of an int that is not negative, and small enough for an address."""
    o = python.offsets
    head = memory.read(address + o.ob_type, o.int_digits - o.ob_type)
    if python.int_type and word(head, 0) != python.int_type:
        raise Malformed(SOURCE, "what should be an int is none")
    return parse_digits(memory.read(address + o.int_digits, 4 * int_digits(o, head)))


def type_name(memory: Snapshot, offsets: Offsets, a_type: int) -> bytes:
    """Return the name of a type, cut where it is long."""
    return memory.string(memory.word(a_type + offsets.tp_name), _SHORT)
