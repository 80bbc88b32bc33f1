"""Defines the thread table's layout: the bytes that a publisher writes and a daemon reads.

A table is a memfd called :data:`NAME` of :data:`HEADER_SIZE` + capacity × :data:`SLOT_SIZE` bytes,
sparse beyond what has been used. All numbers are little-endian.

The header has a static half, written once and protected by a CRC (the process, and the address of
its GIL), and two counters that change. A slot holds one thread. It is written when the thread
starts, again when the thread is renamed, and a last time when the thread ends, with the CPU time of
its whole life. An ended slot is used again only after :data:`RETAIN_NS`, or once
:data:`RETAIN_SLOTS` others have ended since. So a reader that comes by every few seconds sees every
thread that ever lived. Each write covers one slot, whose CRC tells a reader that came in between.
The number of slots in use is not written anywhere: a run of :data:`CHUNK` empty ones is the end.

``generation`` changes with every change of a slot: a reader that knows the present one can stop
after :data:`HEADER_SIZE` bytes. ``serial`` numbers the births of a table from 1, ``end_serial`` its
deaths.

Runs inside other people's processes: imports nothing but :mod:`binascii` and the C half of
:mod:`struct`.
"""

from _struct import Struct  # `struct` costs 0.1 ms to import
from binascii import crc32

NAME = "threadwatch"
"""The memfd's name; the kernel shows it as ``/memfd:threadwatch (deleted)`` in ``/proc/PID/fd``."""

SOCKET = "/run/threadwatch/publish.socket"
"""The Unix socket (SOCK_SEQPACKET) of a daemon, to which publishers send their tables: one message of
:data:`MAGIC` with the descriptor (SCM_RIGHTS, unix(7)), and then the end."""

MAGIC = b"thrdwtch"
VERSION = 2
HEADER_SIZE = 256
SLOT_SIZE = 256
CAPACITY = 32768
"""Slots of a table. Sparse: memory is used only for slots that have been written."""
CHUNK = 64
"""Slots are first used in ascending order, so a run of this many empty ones ends the table."""

NAME_BYTES = 192
"""A thread name is cut to this many bytes of UTF-8, at a character boundary."""

RETAIN_NS = 30_000_000_000
RETAIN_SLOTS = 8192
CPU_UNKNOWN = (1 << 64) - 1

FREE_THREADED = 1
"""Header flag: a build without the GIL (PEP 703), whether or not it runs with one."""
CLOSED = 1 << 15
"""Header flag: the publisher has left this table, whose content is no longer true."""

MAX_GIL_SIZE = 4096
MAX_OFFSET = 4096
"""No GIL is larger, and no id in a thread state is further from its start."""

EMPTY, LIVE, ENDED = 0, 1, 2
CUT = 1
"""Slot flag: the name was longer than :data:`NAME_BYTES`."""
ADOPTED = 2
"""Slot flag: the thread was running before its publisher; its birth time is when it was found.
For people who look at a table: the daemon believes a slot of any thread born before it."""
VISITOR = 4
"""Slot flag: the thread was not started by :mod:`threading` (it is a ``_DummyThread``). From
CPython 3.13 on, a thread of C gets a new one each time that it calls Python, and that one ends with
the call."""
MAX_START_NS = (1 << 32) - 1

STATIC_FIELDS = {
    "magic": "8s",
    "version": "H",
    "header_size": "H",
    "slot_size": "H",
    "flags": "H",
    "capacity": "I",
    "pid": "I",
    "start_ticks": "Q",
    "hexversion": "I",
    "gil_size": "I",
    "interpreter": "q",  # -1 unknown
    "created_ns": "Q",
    "implementation": "16s",
    "gil_address": "Q",
    "ident_offset": "H",
    "native_offset": "H",
}
"""The fields of the static half, in order, as :mod:`struct` packs them; their CRC is at STATIC_SIZE."""
STATIC = Struct("<" + "".join(STATIC_FIELDS.values()))
STATIC_SIZE = STATIC.size
CRC = Struct("<I")
# generation, threads that found no slot; at offset DYNAMIC_OFFSET of the header
DYNAMIC = Struct("<QQ")
DYNAMIC_OFFSET = 128
FLAGS_OFFSET = 14

# crc, state, flags, name length, serial, tid, ns of CPU time until it was published (0 unknown), ident,
# born ns, ended ns, cpu ns, end serial
SLOT = Struct("<IBBHQIIQQQQQ")
SLOT_HEAD = SLOT.size
# The same without the CRC, which is computed as if zeros stood in its place.
_BODY = Struct("<" + SLOT.format[2:])
_CRC_OF_ZEROS = crc32(bytes(CRC.size))


def pack_static(**fields: "int | bytes") -> bytes:
    """Return the static half of a header with its CRC.

    ``fields``: those of :data:`STATIC_FIELDS` that are not the same in all tables; those of the GIL may
    be left out. ``gil_address``: the address of ``interval`` in CPython's ``struct _gil_runtime_state``, 0 if
    there is no GIL or it was not found; ``gil_size``: the GIL's size from there. ``ident_offset``
    and ``native_offset``: the offsets of the thread's ident and TID in a ``PyThreadState``, in
    bytes; 0 unknown.
    """
    values: dict[str, int | bytes] = {
        "magic": MAGIC,
        "version": VERSION,
        "header_size": HEADER_SIZE,
        "slot_size": SLOT_SIZE,
        "capacity": CAPACITY,
        "gil_address": 0,
        "gil_size": 0,
        "ident_offset": 0,
        "native_offset": 0,
    }
    values.update(fields)
    head = STATIC.pack(*[values[name] for name in STATIC_FIELDS])
    # The flags change when the table is closed, so the CRC is computed as if they were 0.
    return head + CRC.pack(crc32(head[:FLAGS_OFFSET] + b"\0\0" + head[FLAGS_OFFSET + 2 :]))


def encode_name(name: str) -> "tuple[bytes, int]":
    """Return a name as UTF-8 of at most NAME_BYTES, cut between characters, and the flag CUT or 0.

    Lone surrogates, which UTF-8 cannot hold, are written as ``\\udcXX``.
    """
    data = str.encode(name, "utf-8", "backslashreplace")
    if len(data) <= NAME_BYTES:
        return data, 0
    end = NAME_BYTES
    while data[end] & 0xC0 == 0x80:  # a continuation byte: step back to the character's first
        end -= 1
    return data[:end], CUT


def pack_slot(
    state: int,
    flags: int,
    serial: int,
    tid: int,
    ident: int,
    born_ns: int,
    ended_ns: int,
    cpu_ns: int,
    end_serial: int,
    name: bytes,
    start_ns: int = 0,
) -> bytes:
    """Return one slot, shorter than SLOT_SIZE by the unused part of the name."""
    body = (
        _BODY.pack(
            *(state, flags, len(name), serial, tid, start_ns, ident),
            *(born_ns, ended_ns, cpu_ns, end_serial),
        )
        + name
    )
    return CRC.pack(crc32(body, _CRC_OF_ZEROS)) + body
