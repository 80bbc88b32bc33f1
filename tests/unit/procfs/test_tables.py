"""The table parsers on what a publisher packs, and on what they must refuse."""

from __future__ import annotations

import struct
from binascii import crc32

import pytest

from threadwatch.errors import Malformed
from threadwatch.names.slots import Gil, Slot, parse_dynamic, parse_header, parse_slot, parse_slots
from threadwatch.publisher import layout as table


def header(
    *,
    generation: int = 5,
    overflow: int = 0,
    flags: int = 0,
    gil: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> bytes:
    """Return a whole header as a publisher writes it; ``gil``: address, size, offsets of ident and TID."""
    gil_address, gil_size, ident_offset, native_offset = gil
    static = table.pack_static(
        flags=flags,
        pid=4711,
        start_ticks=216004,
        hexversion=0x030C01F0,
        interpreter=-1,
        created_ns=99,
        implementation=b"cpython",
        gil_address=gil_address,
        gil_size=gil_size,
        ident_offset=ident_offset,
        native_offset=native_offset,
    )
    data = static.ljust(table.DYNAMIC_OFFSET, b"\0") + table.DYNAMIC.pack(generation, overflow)
    return data.ljust(table.HEADER_SIZE, b"\0")


def slot(
    *, state: int = table.LIVE, flags: int = 0, cpu_ns: int = 7, name: bytes = b"Thread-1 (work)"
) -> bytes:
    """Return a whole slot as a publisher writes it."""
    packed = table.pack_slot(state, flags, 3, 4713, 0x7F00, 11, 22, cpu_ns, 2, name)
    return packed.ljust(table.SLOT_SIZE, b"\0")


def resealed(data: bytes) -> bytes:
    """Return a header that was changed on purpose, with a CRC that fits."""
    sealed = data[:14] + b"\0\0" + data[16 : table.STATIC_SIZE]
    crc = table.CRC.pack(crc32(sealed))
    return data[: table.STATIC_SIZE] + crc + data[table.STATIC_SIZE + 4 :]


def resealed_slot(data: bytes, length: int) -> bytes:
    """Return a slot that was changed on purpose, with a CRC that fits its first bytes and the name."""
    body = bytes(4) + data[4 : table.SLOT_HEAD + length]
    return table.CRC.pack(crc32(body)) + data[4:]


def test_header_gives_back_what_was_packed() -> None:
    """The header has the process, its Python, and how often something has changed."""
    parsed = parse_header(header(generation=9, overflow=2, flags=table.FREE_THREADED))
    assert (parsed.pid, parsed.start_ticks, parsed.created_ns) == (4711, 216004, 99)
    assert (parsed.python, parsed.implementation) == ((3, 12, 1), "cpython")
    assert parsed.capacity == table.CAPACITY
    assert (parsed.interpreter, parsed.free_threaded, parsed.closed) == (-1, True, False)
    assert (parsed.generation, parsed.overflow) == (9, 2)
    assert parsed.gil is None


def test_header_tells_where_the_gil_is() -> None:
    """Its address and size, and where a thread state has its thread's ident and TID; 0 is unknown."""
    known = parse_header(header(gil=(0x7FE68A740C28, 208, 152, 160))).gil
    assert known == Gil(0x7FE68A740C28, 208, ident_offset=152, native_offset=160)
    assert parse_header(header(gil=(8, 24, 0, 0))).gil == Gil(8, 24, 0, 0)


@pytest.mark.parametrize(
    ("gil", "why"),
    [
        ((0x1004, 208, 152, 160), "no GIL is at 0x1004"),
        ((1 << 63, 208, 152, 160), "no GIL is at 0x8000000000000000"),
        ((0x1000, 23, 152, 160), "no GIL has 23 bytes"),
        ((0x1000, 4097, 152, 160), "no GIL has 4097 bytes"),
        ((0x1000, 208, 4104, 0), "no thread state has an ident or a TID at 4104"),
        ((0x1000, 208, 152, 161), "no thread state has an ident or a TID at 161"),
    ],
)
def test_gils_that_cannot_be_are_malformed(gil: tuple[int, int, int, int], why: str) -> None:
    """A header that sends its reader astray is refused as a whole, with the reason."""
    with pytest.raises(Malformed, match=rf"^table: malformed: {why}$"):
        parse_header(header(gil=gil))


def test_closing_a_table_does_not_break_its_seal() -> None:
    """The CRC is taken as if the flags were 0, so they can change afterwards."""
    data = bytearray(header())
    data[table.FLAGS_OFFSET : table.FLAGS_OFFSET + 2] = struct.pack("<H", table.CLOSED)
    assert parse_header(bytes(data)).closed


def test_counters_alone_are_those_of_the_header() -> None:
    """The cheap read of a poll gives the same numbers as the whole header."""
    data = header(generation=2**64 - 1, overflow=4)
    start = table.DYNAMIC_OFFSET
    assert parse_dynamic(data[start : start + table.DYNAMIC.size]) == (2**64 - 1, 4)


def patched(data: bytes, offset: int, new: bytes) -> bytes:
    """Return the same with some bytes replaced."""
    return data[:offset] + new + data[offset + len(new) :]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "256 bytes, not 0"),
        (header()[:-1], "256 bytes, not 255"),
        (bytes(table.HEADER_SIZE), "should begin with"),
        (resealed(patched(header(), 0, b"THRDWTCH")), "should begin with"),
        (resealed(patched(header(), 8, b"\1")), "version 2, not 1"),
        (resealed(patched(header(), 10, b"\x40\1")), "sizes 320 and 256"),
        (resealed(patched(header(), 12, b"\x80\0")), "sizes 256 and 128"),
        (patched(header(), 20, b"\1"), "CRC"),
        (patched(header(), table.STATIC_SIZE, b"\0\0\0\0"), "CRC"),
        (resealed(patched(header(), 16, struct.pack("<I", table.CAPACITY + 1))), "capacity"),
    ],
)
def test_other_headers_are_malformed(data: bytes, why: str) -> None:
    """A header that is not ours, of another layout or damaged is refused with the reason."""
    with pytest.raises(Malformed, match=rf"^table: malformed: .*({why})"):
        parse_header(data)


@pytest.mark.parametrize("size", [0, table.DYNAMIC.size - 1, table.DYNAMIC.size + 1])
def test_counters_of_another_size_are_malformed(size: int) -> None:
    """What a table that was cut short gives is refused."""
    with pytest.raises(Malformed, match=r"^table: malformed: "):
        parse_dynamic(bytes(size))


def test_slot_gives_back_what_was_packed() -> None:
    """All that a publisher tells about a thread."""
    assert parse_slot(slot(state=table.ENDED, flags=table.CUT)) == Slot(
        state=table.ENDED,
        name="Thread-1 (work)",
        cut=True,
        serial=3,
        tid=4713,
        ident=0x7F00,
        born_ns=11,
        ended_ns=22,
        cpu_ns=7,
        end_serial=2,
    )
    visitor = table.pack_slot(table.LIVE, table.VISITOR, 1, 2, 3, 4, 0, 0, 0, b"Dummy-1", 5000)
    parsed = parse_slot(visitor.ljust(table.SLOT_SIZE, b"\0"))
    assert parsed is not None
    assert (parsed.visitor, parsed.start_ns) == (True, 5000)


def test_unknown_cpu_time_is_none() -> None:
    """CPU time that the publisher could not read is not a huge number."""
    parsed = parse_slot(slot(cpu_ns=table.CPU_UNKNOWN))
    assert parsed is not None
    assert parsed.cpu_ns is None


def test_a_shorter_name_ends_where_it_ends() -> None:
    """The rest of an earlier, longer name in the slot does not show."""
    long = slot(name=b"a long name of a thread")
    packed = table.pack_slot(table.LIVE, 0, 4, 4714, 1, 1, 0, 0, 0, b"short")
    parsed = parse_slot(packed + long[len(packed) :])
    assert parsed is not None
    assert parsed.name == "short"


def test_names_that_are_not_utf8_are_replaced() -> None:
    """Bytes that a hostile target put there become U+FFFD."""
    parsed = parse_slot(slot(name=b"\xff\xfe"))
    assert parsed is not None
    assert parsed.name == "��"


@pytest.mark.parametrize(
    "data", [bytes(table.SLOT_HEAD), bytes(table.SLOT_SIZE), slot(state=table.EMPTY, name=b"")]
)
def test_empty_slots_are_none(data: bytes) -> None:
    """A slot that was never used, or is empty again, holds no thread."""
    assert parse_slot(data) is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "64 bytes or more"),
        (slot()[: table.SLOT_HEAD - 1], "64 bytes or more"),
        (slot()[: table.SLOT_HEAD + 3], "does not fit"),
        (patched(slot(), 6, struct.pack("<H", table.NAME_BYTES + 1)), "does not fit"),
        (patched(slot(), table.SLOT_HEAD, b"X"), "CRC"),
        (patched(slot(), 20, b"\xff"), "CRC"),
        (resealed_slot(patched(slot(), 4, b"\3"), 15), "no slot has state 3"),
        (bytes(4) + slot()[4:], "CRC"),
    ],
)
def test_other_slots_are_malformed(data: bytes, why: str) -> None:
    """Damage, a write under way and lies about lengths are refused with the reason."""
    with pytest.raises(Malformed, match=rf"^table: malformed: .*{why}"):
        parse_slot(data)


def test_a_run_leaves_out_what_is_torn_and_counts_it() -> None:
    """One slot that is being written does not hide the others; numbers go on from the first."""
    torn = patched(slot(), table.SLOT_HEAD, b"X")
    data = slot(name=b"a") + bytes(table.SLOT_SIZE) + torn + slot(name=b"b")
    slots, count = parse_slots(data, 64)
    assert [(index, one.name) for index, one in slots] == [(64, "a"), (67, "b")]
    assert count == 1


def test_a_run_leaves_out_what_is_known() -> None:
    """With the bytes of the read before, only slots that have changed since are parsed."""
    torn = patched(slot(), table.SLOT_HEAD, b"X")
    before = slot(name=b"a") + slot(name=b"b") + torn
    after = slot(name=b"a") + slot(name=b"c") + slot(name=b"d") + slot(name=b"e")
    slots, count = parse_slots(after, known=before)
    assert [(index, one.name) for index, one in slots] == [(1, "c"), (2, "d"), (3, "e")]
    assert count == 0


def test_a_run_that_ends_inside_a_slot_is_malformed() -> None:
    """A table that was cut short is refused, with the number of the slot."""
    with pytest.raises(Malformed, match="ends inside slot 11"):
        parse_slots(slot() + slot()[:-1], 10)
