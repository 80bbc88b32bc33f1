"""Objects of CPython as bytes: int, str, and the keys of dicts. Pure and total: a value, or Malformed.

An object's bytes are given from its type on (``ob_type``): what is in front of that is the count of its
references, which says nothing about it. Layouts: CPython, Include/cpython/unicodeobject.h, longintrepr.h,
Include/internal/pycore_dict.h and Objects/dict-common.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct, unpack

from threadwatch.errors import Malformed
from threadwatch.names.memory.offsets import Offsets
from threadwatch.names.memory.snapshot import SOURCE, half, word

KEYS_HEAD = 40
"""Bytes of a dict's keys that say how the rest is laid out."""
MOST_ENTRIES = 1 << 18
"""No dict that is read here has more entries."""

_MOST_DIGITS = 3
"""Of 30 bits each: enough for an address or a TID."""
_PAIR = Struct("<QQ")
_TRIPLE = Struct("<8xQQ")
_SIZES = Struct("<qq")


@dataclass(frozen=True, slots=True)
class Keys:
    """The layout of a dict's keys."""

    entries: int
    """The offset of the first entry."""
    count: int
    """How many there are; those that were deleted are empty."""
    size: int
    """Bytes of each: 24 with the key's hash in front, or 16."""

    @property
    def end(self) -> int:
        """Return the offset behind the last entry."""
        return self.entries + self.count * self.size

    def is_like(self, other: Keys) -> bool:
        """Return whether each entry is at the same offset there."""
        return (self.entries, self.size) == (other.entries, other.size)

    def key(self, number: int) -> int:
        """Return the offset of an entry's address of its key; that of its value follows."""
        return self.entries + number * self.size + (self.size - 16)

    def pairs(self, data: bytes) -> list[tuple[int, int]]:
        """Return the addresses of key and value of each entry, whose bytes these are."""
        layout = _TRIPLE if self.size == _TRIPLE.size else _PAIR
        return list(layout.iter_unpack(data[: len(data) // self.size * self.size]))


@dataclass(frozen=True, slots=True)
class Text:
    """The place of a str's characters, and their kind."""

    start: int
    """Bytes from the beginning of the object."""
    length: int
    kind: int
    """Bytes of each character: 1, 2 or 4."""

    def decode(self, data: bytes) -> str:
        """Return the characters, lone surrogates as they are; :class:`Malformed` for what is no character."""
        if self.kind == 1:
            return data.decode("latin-1")
        codes = unpack(f"<{len(data) // self.kind}{'H' if self.kind == 2 else 'I'}", data)
        try:
            return "".join(map(chr, codes))
        except (ValueError, OverflowError):
            raise Malformed(SOURCE, "a str has what is no character") from None


def parse_keys(offsets: Offsets, head: bytes) -> Keys:
    """Return how a dict's keys are laid out, by their first :data:`KEYS_HEAD` bytes."""
    if len(head) < KEYS_HEAD:
        raise Malformed(SOURCE, "the keys of a dict are cut short")
    if offsets.minor >= 11:
        log2, log2_bytes, kind = head[8], head[9], head[10]
        if kind > 2 or log2 > 40 or not log2 <= log2_bytes <= log2 + 3:
            raise Malformed(SOURCE, f"no dict has keys of kind {kind}, of 2^{log2} places")
        places = 1 << log2
        usable, count = _SIZES.unpack_from(head, 16)
        entries, size = 32 + (1 << log2_bytes), 16 if kind else 24
    else:
        places = word(head, 8)
        if not places or places & (places - 1) or places > 1 << 40:
            raise Malformed(SOURCE, f"no dict has {places} places")
        usable, count = _SIZES.unpack_from(head, 24)
        width = 1 if places <= 0xFF else 2 if places <= 0xFFFF else 4 if places <= 0xFFFFFFFF else 8
        entries, size = 40 + places * width, 24
    if not 0 <= count <= min(places, MOST_ENTRIES) or not 0 <= usable <= places:
        raise Malformed(SOURCE, f"no dict of {places} places has {count} entries")
    return Keys(entries, count, size)


def int_digits(offsets: Offsets, head: bytes) -> int:
    """Return how many digits an int has, by its bytes before them.

    :raises Malformed: it is negative, or too large for an address.
    """
    tag = word(head, offsets.int_tag - offsets.ob_type)
    count = tag
    if offsets.minor >= 12:
        count, sign = tag >> 3, tag & 3
        if sign == 1:
            return 0
        if sign:
            raise Malformed(SOURCE, "an int is negative")
    if count > _MOST_DIGITS:
        raise Malformed(SOURCE, f"an int has {count} digits")
    return count


def parse_digits(data: bytes) -> int:
    """Return the number that these digits are, the lowest first."""
    value = 0
    for number in range(len(data) // 4):
        digit = half(data, 4 * number)
        if digit >> 30:
            raise Malformed(SOURCE, f"no digit is {digit:#x}")
        value |= digit << 30 * number
    return value


def parse_str(offsets: Offsets, head: bytes) -> Text:
    """Return where a str's characters are, by its bytes up to its state."""
    base = offsets.ob_type
    length = word(head, offsets.str_length - base)
    state = half(head, offsets.str_state - base) >> offsets.str_bits
    kind, compact, is_ascii = state & 7, state >> 3 & 1, state >> 4 & 1
    if kind not in {1, 2, 4} or not compact or (is_ascii and kind != 1):
        raise Malformed(SOURCE, f"no str has state {state:#x}")
    return Text(offsets.ascii_size if is_ascii else offsets.compact_size, length, kind)
