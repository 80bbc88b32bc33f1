"""Knows where CPython 3.9 to 3.15 keeps what is read of it: 64 bits, little-endian.

3.13 and later describe themselves: ``_PyRuntime`` begins with ``struct _Py_DebugOffsets`` (CPython,
Include/internal/pycore_debug_offsets.h). For 3.9 to 3.12 there is a table, made from the headers of 3.9.18,
3.10.13, 3.11.7 and 3.12.1; :mod:`.interpreter` proves in each process that it fits before it is believed. The
fields of ``_Py_DebugOffsets`` move from one minor version to the next, so a version that is not listed here
is refused, never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass

from threadwatch.errors import Malformed, Unsupported
from threadwatch.names.memory.snapshot import SOURCE, word

COOKIE = b"xdebugpy"
"""What ``_PyRuntime`` begins with from 3.13 on."""
HEAD_SIZE = 24
"""Bytes of ``_PyRuntime`` that tell what it is: the cookie, the version, whether it is free-threaded."""
OLDEST, NEWEST = 9, 15
"""The minor versions that can be read."""
HEAP_TYPE, MANAGED_DICT, INLINE_VALUES = 1 << 9, 1 << 4, 1 << 2
"""Bits of ``tp_flags``: a class of a ``class`` statement; attributes in front of an object, or in it."""

_LARGEST = 1 << 24
"""No offset is larger: a runtime has some hundred KiB."""
_DESCRIBED = {13: 584, 14: 760, 15: 888}
"""The size of ``_Py_DebugOffsets`` by minor version."""


@dataclass(frozen=True, slots=True)
class Offsets:
    """Offsets in bytes, in the structs that the comments name."""

    minor: int
    free_threaded: bool
    # _PyRuntimeState
    interpreters: int
    runtime_gil: int | None
    """The one GIL of all interpreters, up to 3.11."""
    # PyInterpreterState
    next_interpreter: int
    states: int
    modules: int
    sysdict: int
    gil: int | None
    """Where the address of its GIL is, from 3.12 on."""
    # PyThreadState
    next_state: int
    state_interpreter: int
    ident: int
    native: int
    """The TID; 0: it is not there (before 3.11)."""
    # PyObject, PyTypeObject, PyHeapTypeObject
    object_size: int
    ob_type: int
    tp_name: int
    tp_basicsize: int
    tp_flags: int
    tp_dictoffset: int
    cached_keys: int
    # PyDictObject
    ma_keys: int
    ma_values: int
    # PyASCIIObject, PyCompactUnicodeObject
    str_length: int
    str_state: int
    str_bits: int
    """The bit of the state where ``kind`` begins."""
    ascii_size: int
    compact_size: int
    # PyLongObject
    int_tag: int
    int_digits: int

    @property
    def gil_start(self) -> int:
        """Return where ``interval`` is in a GIL; ``enabled`` comes first in free-threaded builds."""
        return 8 if self.free_threaded else 0

    @property
    def managed_dict(self) -> int:
        """Return where the address of an object's dict is, from 3.13 on: in front of the object."""
        return -8 if self.free_threaded else -24


def parse_head(data: bytes) -> int | None:
    """Return the size of ``_Py_DebugOffsets``, by the first bytes of ``_PyRuntime``; None: it has none.

    :raises Unsupported: it is of a version that is not known.
    :raises Malformed: it is not what a ``_PyRuntime`` begins with.
    """
    if not data.startswith(COOKIE):
        return None
    version, free_threaded = word(data, 8), word(data, 16)
    if version >> 32 or version >> 24 != 3 or free_threaded > 1:
        raise Malformed(SOURCE, f"no CPython has version {version:#x}")
    minor = version >> 16 & 0xFF
    if minor not in _DESCRIBED:
        raise Unsupported(SOURCE, _unknown(minor))
    return _DESCRIBED[minor]


def parse_described(data: bytes) -> tuple[Offsets, int]:
    """Return the offsets of 3.13 and later by ``_Py_DebugOffsets``, and ``PY_VERSION_HEX``.

    :raises Malformed: no CPython is laid out so.
    """
    if len(data) < HEAD_SIZE or parse_head(data) != len(data):
        raise Malformed(SOURCE, "the description of its offsets is cut short")
    version, free_threaded = word(data, 8), bool(word(data, 16))
    minor = version >> 16 & 0xFF

    def field(*places: int) -> int:
        """Return the field, by where it is in 3.13, 3.14 and 3.15."""
        value = word(data, places[minor - 13])
        if value >= _LARGEST:
            raise Malformed(SOURCE, f"no offset is {value:#x}")
        return value

    object_size = field(352, 400, 464)
    more = object_size - 16  # what free-threaded builds have in each object besides
    ascii_size = field(560, 640, 736)
    # a char, and then bits, instead of bits alone
    str_bits = 8 if free_threaded and minor >= 14 else 2
    return Offsets(
        minor=minor,
        free_threaded=free_threaded,
        interpreters=field(40, 40, 40),
        runtime_gil=None,
        next_interpreter=field(64, 64, 64),
        states=field(72, 72, 72),
        modules=field(88, 96, 96),
        sysdict=field(96, 104, 104),
        gil=field(112, 120, 120),
        next_state=field(168, 192, 192),
        state_interpreter=field(176, 200, 200),
        ident=field(192, 216, 240),
        native=field(200, 224, 248),
        object_size=object_size,
        ob_type=field(360, 408, 472),
        tp_name=field(376, 424, 488),
        tp_flags=field(392, 440, 504),
        # 3.15 is the first to describe these three
        tp_basicsize=field(0, 0, 512) if minor >= 15 else 32 + more,
        tp_dictoffset=field(0, 0, 520) if minor >= 15 else 288 + more,
        cached_keys=field(0, 0, 536) if minor >= 15 else 880 + more,
        ma_keys=field(456, 536, 632),
        ma_values=field(464, 544, 640),
        str_length=field(552, 632, 728),
        str_state=field(544, 624, 720),
        str_bits=str_bits,
        ascii_size=ascii_size,
        compact_size=ascii_size + 16,
        int_tag=field(496, 576, 672),
        int_digits=field(504, 584, 680),
    ), version


def tabled(minor: int) -> Offsets:
    """Return the offsets of 3.9 to 3.12 by the table; :class:`Unsupported` for other versions."""
    if minor not in _TABLE:
        raise Unsupported(SOURCE, _unknown(minor))
    return _TABLE[minor]


def _old(
    minor: int,
    *,
    interpreters: int,
    states: int,
    modules: int,
    sysdict: int,
    ident: int,
    native: int,
    cached_keys: int,
    runtime_gil: int | None = None,
    gil: int | None = None,
    ascii_size: int = 48,
    compact_size: int = 72,
) -> Offsets:
    """Return what the table says, with what is the same in 3.9 to 3.12."""
    return Offsets(
        minor=minor,
        free_threaded=False,
        interpreters=interpreters,
        runtime_gil=runtime_gil,
        next_interpreter=0,
        states=states,
        modules=modules,
        sysdict=sysdict,
        gil=gil,
        next_state=8,
        state_interpreter=16,
        ident=ident,
        native=native,
        object_size=16,
        ob_type=8,
        tp_name=24,
        tp_basicsize=32,
        tp_flags=168,
        tp_dictoffset=288,
        cached_keys=cached_keys,
        ma_keys=32,
        ma_values=40,
        str_length=16,
        str_state=32,
        str_bits=2,
        ascii_size=ascii_size,
        compact_size=compact_size,
        int_tag=16,
        int_digits=24,
    )


def _unknown(minor: int) -> str:
    return f"CPython 3.{minor} is not known: 3.{OLDEST} to 3.{NEWEST} are"


_TABLE = {
    9: _old(
        9,
        interpreters=32,
        states=8,
        modules=856,
        sysdict=872,
        ident=176,
        native=0,
        cached_keys=864,
        runtime_gil=352,
    ),
    10: _old(
        10,
        interpreters=32,
        states=8,
        modules=856,
        sysdict=872,
        ident=176,
        native=0,
        cached_keys=872,
        runtime_gil=352,
    ),
    11: _old(
        11,
        interpreters=40,
        states=16,
        modules=888,
        sysdict=904,
        ident=152,
        native=160,
        cached_keys=872,
        runtime_gil=360,
    ),
    12: _old(
        12,
        interpreters=40,
        states=72,
        modules=944,
        sysdict=352,
        ident=136,
        native=144,
        cached_keys=880,
        gil=384,
        ascii_size=40,
        compact_size=56,
    ),
}
