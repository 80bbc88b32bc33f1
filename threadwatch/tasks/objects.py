"""Reads objects of Python in a process that runs on: types, strs, code. Each is proven by its type.

What is read can be torn at any time, so what does not fit is an error, and the caller looks again. What is
remembered is remembered by address for :data:`REMEMBERED_NS`, because an address is used again: types, code,
and the qualified names that code and coroutines share. What belongs to one task alone (its coroutine, its own
name) is never remembered.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import NamedTuple, Protocol

from threadwatch.errors import ReadError
from threadwatch.names.memory.objects import parse_str
from threadwatch.names.memory.offsets import HEAP_TYPE
from threadwatch.names.memory.snapshot import PAGE, word
from threadwatch.names.memory.walk import Python
from threadwatch.publisher.layout import encode_name
from threadwatch.tasks.layout import Layout, malformed

REMEMBERED_NS = 1_000_000_000
"""How long what an address has shown is believed: so long can one deceive that is used again."""

_MOST_REMEMBERED = 8192
_MOST_CHARACTERS = 256
"""Of a str that are read; a label is cut as the name of a thread is."""
_LONGEST_TYPE_NAME = 64
_MOST_BASES = 64
_MOST_LOCALS = 64
_STR_READ = 96
"""Bytes that are read of a str at first: most labels are no longer."""
_WORD = Struct("<Q")
_DEFAULT = re.compile("Task-[0-9]+")
"""What a task is called that nothing else was said of."""
_DEFAULT_ASCII = re.compile(_DEFAULT.pattern.encode())


class Readable(Protocol):
    """A memory, or a snapshot of one."""

    def read(self, address: int, size: int) -> bytes:
        """Return the bytes from there. Raises Gone or ReadError."""


class TypeView(NamedTuple):
    """A type, by what it says of itself."""

    name: str
    """Without its module."""
    builtin: bool
    """It is made in C, and lives as long as the process: no other can have its address."""
    base: int


class Code(NamedTuple):
    """A code object, by what it says of itself."""

    name: str
    """Qualified, from 3.11 on."""
    file: str


class Objects:
    """Objects of one process, by their addresses."""

    def __init__(self, python: Python, layout: Layout) -> None:
        self._offsets = python.offsets
        self._str_type = python.str_type
        self._layout = layout
        self._since_ns = 0
        self._types: dict[int, TypeView] = {}
        self._builtins: dict[int, TypeView] = {}
        self._kin: dict[tuple[int, int], bool] = {}
        self._texts: dict[int, str] = {}
        self._codes: dict[int, Code] = {}

    def begin(self, now_ns: int) -> None:
        """Forget what has been remembered for too long. To be called before each look."""
        if (
            not 0 <= now_ns - self._since_ns < REMEMBERED_NS
            or len(self._texts) + len(self._codes) > _MOST_REMEMBERED
        ):
            self._since_ns = now_ns
            for remembered in (self._types, self._kin, self._texts, self._codes):
                remembered.clear()

    def type_at(self, memory: Readable, address: int) -> int:
        """Return the address of an object's type. Raises Gone or ReadError, as all that follows."""
        return word(memory.read(address + self._offsets.ob_type, 8), 0)

    def type(self, memory: Readable, a_type: int) -> TypeView:
        """Return what the type at that address says of itself."""
        known = self._builtins.get(a_type) or self._types.get(a_type)
        if known is None:
            o = self._layout
            data = memory.read(a_type, o.type_base + 8)
            name = _string(memory, word(data, self._offsets.tp_name), _LONGEST_TYPE_NAME)
            builtin = not word(data, o.type_flags) & HEAP_TYPE
            text = name.decode("utf-8", "replace").rpartition(".")[2]
            known = TypeView(text, builtin, word(data, o.type_base))
            (self._builtins if builtin and len(self._builtins) < _MOST_REMEMBERED else self._types)[
                a_type
            ] = known
        return known

    def is_a(self, memory: Readable, a_type: int, base: int) -> bool:
        """Return whether a type is that base or is derived from it, in the first line."""
        known = self._kin.get((a_type, base))
        if known is None:
            at = a_type
            for _ in range(_MOST_BASES):
                if at in (0, base):
                    break
                at = self.type(memory, at).base
            known = self._kin[a_type, base] = at == base
        return known

    def is_builtin(self, memory: Readable, a_type: int, name: str) -> bool:
        """Return whether a type is Python's own of that name."""
        found = self.type(memory, a_type)
        return found.builtin and found.name == name

    def explicit_name(self, memory: Readable, address: int) -> str | None:
        """Return the name of a task, by its object; None: it is none, or the one that asyncio gives."""
        o = self._offsets
        head = o.str_state + 4
        data = memory.read(address, max(min(_STR_READ, PAGE - address % PAGE), head))
        if _WORD.unpack_from(data, o.ob_type)[0] != self._str_type:
            return None  # a number, of which asyncio makes the name when it is asked for
        end = o.ascii_size + _WORD.unpack_from(data, o.str_length)[0]
        if end <= len(data) and _DEFAULT_ASCII.fullmatch(data, o.ascii_size, end):
            return None  # the most frequent case, without more ado
        name = self._text(memory, address, data)
        return None if not name or _DEFAULT.fullmatch(name) else name

    def text(self, memory: Readable, address: int) -> str:
        """Return the characters of a str, as much as a label has of it."""
        o = self._offsets
        head = o.str_state + 4
        data = memory.read(address, max(min(_STR_READ, PAGE - address % PAGE), head))
        if word(data, o.ob_type) != self._str_type:
            raise malformed("what should be a str is none")
        return self._text(memory, address, data)

    def _text(self, memory: Readable, address: int, data: bytes) -> str:
        """Return the characters of a str, of which these are the first bytes."""
        o = self._offsets
        text = parse_str(o, data[o.ob_type : o.str_state + 4])
        size = min(text.length, _MOST_CHARACTERS) * text.kind
        characters = data[text.start : text.start + size]
        if len(characters) < size:
            characters = memory.read(address + text.start, size)
        return encode_name(text.decode(characters))[0].decode("utf-8", "replace")

    def shared_text(self, memory: Readable, address: int) -> str:
        """Return the same of a str that lives as long as code does: it is remembered for a while."""
        known = self._texts.get(address)
        if known is None:
            known = self._texts[address] = self.text(memory, address)
        return known

    def code(self, memory: Readable, address: int) -> Code:
        """Return what the code at that address says of itself."""
        known = self._codes.get(address)
        if known is None:
            o = self._layout
            data = memory.read(address, max(o.code_name, o.code_filename, o.code_qualname) + 8)
            if not self.is_builtin(memory, word(data, self._offsets.ob_type), "code"):
                raise malformed("what should be code is none")
            name = self.text(memory, word(data, o.code_qualname or o.code_name))
            known = Code(name, self.text(memory, word(data, o.code_filename)))
            self._codes[address] = known
        return known

    def local_names(self, memory: Readable, code: int) -> list[str]:
        """Return the names of a function's locals, in their order on its frames."""
        o = self._layout
        (names,) = words(memory, code + o.code_locals, 1)
        if not self.is_builtin(memory, self.type_at(memory, names), "tuple"):
            raise malformed("the names of locals are no tuple")
        (count,) = words(memory, names + o.tuple_size, 1)
        if count > _MOST_LOCALS:
            raise malformed(f"a function has {count} locals")
        try:
            return [self.text(memory, at) for at in words(memory, names + o.tuple_items, count)]
        except ReadError:
            raise malformed("the names of locals are no strs") from None


def words(memory: Readable, address: int, count: int) -> tuple[int, ...]:
    """Return this many words from there."""
    return tuple(value for (value,) in _WORD.iter_unpack(memory.read(address, 8 * count)))


def _string(memory: Readable, address: int, most: int) -> bytes:
    """Return the bytes until a zero, or the first ``most``."""
    data = memory.read(address, min(most, PAGE - address % PAGE))
    if b"\0" not in data and len(data) < most:
        try:
            data += memory.read(address + len(data), most - len(data))
        except ReadError:
            raise malformed("the name of a type has no end") from None
    return data.split(b"\0", 1)[0]
