"""Parses thread tables: bytes that a target has written, by :mod:`threadwatch.publisher.layout`.

A table that parses is not yet believed. A CRC shows damage and writes under way, not lies: the
caller has to check against the kernel to whom the table belongs, and whether its threads exist.
"""

from __future__ import annotations

from binascii import crc32
from dataclasses import dataclass, replace

from threadwatch.errors import Malformed
from threadwatch.publisher.layout import (
    CAPACITY,
    CLOSED,
    CPU_UNKNOWN,
    CRC,
    CUT,
    DYNAMIC,
    DYNAMIC_OFFSET,
    EMPTY,
    ENDED,
    FLAGS_OFFSET,
    FREE_THREADED,
    HEADER_SIZE,
    LIVE,
    MAGIC,
    MAX_GIL_SIZE,
    MAX_OFFSET,
    NAME_BYTES,
    SLOT,
    SLOT_HEAD,
    SLOT_SIZE,
    STATIC,
    STATIC_FIELDS,
    STATIC_SIZE,
    VERSION,
    VISITOR,
)

_SOURCE = "table"
_NS_PER_TICK = 10_000_000
"""A clock tick of the kernel's interfaces (USER_HZ), in which start times are told."""
_ZEROS = bytes(SLOT_HEAD)
_SEED = crc32(bytes(CRC.size))
"""The CRC of a slot is computed with zeros in its own place."""


@dataclass(frozen=True, slots=True)
class Gil:
    """The place of a GIL in its process's memory: CPython's ``struct _gil_runtime_state``.

    The target claims it: memory there is worth no more than what the target writes into it.
    """

    address: int
    """The address of ``interval``; ``last_holder`` (a ``PyThreadState *``) follows at 8, ``locked`` at 16."""
    size: int
    """Bytes from there that are the GIL's: a thread that waits on a futex in them waits for the GIL."""
    ident_offset: int
    """Where in a PyThreadState its thread's ``threading.get_ident()`` is, in bytes; 0 unknown."""
    native_offset: int
    """Where its thread's TID is, as the target sees it; 0 before CPython 3.11, or unknown."""


@dataclass(frozen=True, slots=True)
class TableHeader:
    """The publisher of a table, and the counters of its changes."""

    free_threaded: bool
    """A build without the GIL, whether or not it runs with one."""
    closed: bool
    """The publisher has left this table."""
    capacity: int
    pid: int
    """The publisher's PID as it sees it itself: in the innermost PID namespace."""
    start_ticks: int
    python: tuple[int, int, int]
    interpreter: int
    """The subinterpreter's id; 0 is the main one, -1 unknown."""
    created_ns: int
    implementation: str
    generation: int
    """Changes with every change of a slot."""
    overflow: int
    """Threads that found no slot."""
    gil: Gil | None
    """None where threads run without one, or the publisher has not found it."""

    def names(self, ns_pid: int, start_ticks: int) -> bool:
        """Return whether the publisher is the process with this PID, as it sees it itself, and start time."""
        return (self.pid, self.start_ticks) == (ns_pid, start_ticks)

    def by_our_clock(self, ahead_ns: int, start_ticks: int) -> TableHeader:
        """Return the header with times by our clock, if the publisher's clock is ``ahead_ns`` ahead of ours.

        ``start_ticks``: the start time of the process that it may be of. Returns the header
        unchanged if the process did not start then.
        """
        # A tick belongs to one tick and the next there, if the difference is no whole number of
        # ticks.
        later_ticks = self.start_ticks - start_ticks - ahead_ns // _NS_PER_TICK
        if later_ticks not in {0, 1} or (later_ticks and ahead_ns % _NS_PER_TICK == 0):
            return self
        return replace(self, start_ticks=start_ticks, created_ns=self.created_ns - ahead_ns)


@dataclass(frozen=True, slots=True)
class Slot:
    """One thread that lives or has ended, as its publisher says."""

    state: int
    """:data:`threadwatch.publisher.layout.LIVE` or :data:`threadwatch.publisher.layout.ENDED`."""
    name: str
    cut: bool
    serial: int
    """The number of its birth in this table, from 1."""
    tid: int
    """As the publisher sees it: in the innermost PID namespace."""
    ident: int
    """``threading.get_ident()``."""
    born_ns: int
    ended_ns: int
    cpu_ns: int | None
    """CPU time in its whole life, once it has ended; None where the publisher does not know."""
    end_serial: int
    """The number of its death in this table, from 1."""

    def by_our_clock(self, ahead_ns: int) -> Slot:
        """Return the slot with times by our clock, if the publisher's clock is ``ahead_ns`` ahead of ours."""
        ended_ns = self.ended_ns - ahead_ns if self.state == ENDED else self.ended_ns
        return replace(self, born_ns=self.born_ns - ahead_ns, ended_ns=ended_ns)

    visitor: bool = False
    """A thread that :mod:`threading` has not started, for example one of C."""
    start_ns: int = 0
    """CPU time that it used until it could be published; 0 unknown."""


def parse_header(data: bytes) -> TableHeader:
    """Return the header in a table's first bytes, or raise :class:`Malformed`.

    These are :data:`~threadwatch.publisher.layout.HEADER_SIZE` bytes.
    """
    if len(data) < HEADER_SIZE:
        raise Malformed(_SOURCE, f"the header should have {HEADER_SIZE} bytes, not {len(data)}")
    static = dict(zip(STATIC_FIELDS, STATIC.unpack_from(data), strict=True))
    if static["magic"] != MAGIC:
        raise Malformed(_SOURCE, f"should begin with {MAGIC!r}, not {static['magic']!r}")
    version = static["version"]
    if version != VERSION:
        raise Malformed(_SOURCE, f"the layout should be version {VERSION}, not {version}")
    sizes = static["header_size"], static["slot_size"]
    if sizes != (HEADER_SIZE, SLOT_SIZE):
        raise Malformed(
            _SOURCE, f"sizes {sizes[0]} and {sizes[1]} are not those of version {VERSION}"
        )
    # The flags change when the table is closed, so the CRC is computed as if they were 0.
    sealed = data[:FLAGS_OFFSET] + b"\0\0" + data[FLAGS_OFFSET + 2 : STATIC_SIZE]
    if CRC.unpack_from(data, STATIC_SIZE) != (crc32(sealed),):
        raise Malformed(_SOURCE, "the CRC of the header is wrong")
    capacity, flags = static["capacity"], static["flags"]
    if capacity > CAPACITY:
        raise Malformed(_SOURCE, f"the capacity should be at most {CAPACITY}, not {capacity}")
    generation, overflow = parse_dynamic(data[DYNAMIC_OFFSET : DYNAMIC_OFFSET + DYNAMIC.size])
    hexversion = static["hexversion"]
    return TableHeader(
        free_threaded=bool(flags & FREE_THREADED),
        closed=bool(flags & CLOSED),
        capacity=capacity,
        pid=static["pid"],
        start_ticks=static["start_ticks"],
        python=(hexversion >> 24, hexversion >> 16 & 0xFF, hexversion >> 8 & 0xFF),
        interpreter=static["interpreter"],
        created_ns=static["created_ns"],
        implementation=static["implementation"].rstrip(b"\0").decode("utf-8", "replace"),
        generation=generation,
        overflow=overflow,
        gil=_gil(
            static["gil_address"],
            static["gil_size"],
            static["ident_offset"],
            static["native_offset"],
        ),
    )


def _gil(address: int, size: int, ident_offset: int, native_offset: int) -> Gil | None:
    if not address:
        return None
    if address % 8 or address >= 1 << 63:
        raise Malformed(_SOURCE, f"no GIL is at {address:#x}")
    if not 24 <= size <= MAX_GIL_SIZE:
        raise Malformed(_SOURCE, f"no GIL has {size} bytes")
    for offset in (ident_offset, native_offset):
        if offset % 8 or offset > MAX_OFFSET:
            raise Malformed(_SOURCE, f"no thread state has an ident or a TID at {offset}")
    return Gil(address, size, ident_offset, native_offset)


def parse_dynamic(data: bytes) -> tuple[int, int]:
    """Return ``(generation, overflow)``: the DYNAMIC bytes of a header, or :class:`Malformed`."""
    if len(data) != DYNAMIC.size:
        raise Malformed(_SOURCE, f"the counters should have {DYNAMIC.size} bytes, not {len(data)}")
    generation, overflow = DYNAMIC.unpack(data)
    return generation, overflow


def parse_slot(data: bytes) -> Slot | None:
    """Return one slot; None if no thread is in it.

    The rest of an earlier, longer name may follow the name: only what the length covers counts.
    Raises :class:`Malformed` for a wrong CRC (damage, or the publisher was just writing), state or
    length.
    """
    return _slot(data, 0, len(data))


def parse_slots(
    data: bytes, first: int = 0, *, known: bytes = b""
) -> tuple[list[tuple[int, Slot]], int]:
    """Return the threads in a run of slots, each with its slot's number, and how many slots were torn.

    ``first`` is the number of the run's first slot. ``known`` is the same run as it was read before:
    slots that have not changed since are left out, at a tenth of the cost. Slots that cannot be
    read (see :func:`parse_slot`) are left out and counted as torn: their bytes will be others
    soon. Raises :class:`Malformed` where the run ends inside a slot.
    """
    if len(data) % SLOT_SIZE:
        raise Malformed(_SOURCE, f"ends inside slot {first + len(data) // SLOT_SIZE}")
    slots = []
    torn = 0
    for start in range(0, len(data), SLOT_SIZE):
        end = start + SLOT_SIZE
        if data[start:end] == known[start:end]:
            continue
        try:
            slot = _slot(data, start, end)
        except Malformed:
            torn += 1
        else:
            if slot is not None:
                slots.append((first + start // SLOT_SIZE, slot))
    return slots, torn


def _slot(data: bytes, start: int, end: int) -> Slot | None:
    if end - start < SLOT_HEAD:
        raise Malformed(_SOURCE, f"a slot has {SLOT_HEAD} bytes or more, not {end - start}")
    (
        crc,
        state,
        flags,
        length,
        serial,
        tid,
        start_ns,
        ident,
        born_ns,
        ended_ns,
        cpu_ns,
        end_serial,
    ) = SLOT.unpack_from(data, start)
    if not crc and data[start : start + SLOT_HEAD] == _ZEROS:
        return None
    name = start + SLOT_HEAD
    if length > NAME_BYTES or name + length > end:
        raise Malformed(_SOURCE, f"a name of {length} bytes does not fit")
    if crc != crc32(data[start + CRC.size : name + length], _SEED):
        raise Malformed(_SOURCE, "the CRC of a slot is wrong")
    if state == EMPTY:
        return None
    if state not in {LIVE, ENDED}:
        raise Malformed(_SOURCE, f"no slot has state {state}")
    return Slot(
        state,
        data[name : name + length].decode("utf-8", "replace"),
        flags & CUT != 0,
        serial,
        tid,
        ident,
        born_ns,
        ended_ns,
        None if cpu_ns == CPU_UNKNOWN else cpu_ns,
        end_serial,
        flags & VISITOR != 0,
        start_ns,
    )
