"""The table: what a publisher packs is what a daemon parses, and damage never passes for data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadwatch.errors import Malformed
from threadwatch.names.slots import Gil, parse_dynamic, parse_header, parse_slot, parse_slots
from threadwatch.publisher import layout as table

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
ANY_TEXT = st.text(st.characters(), max_size=120)  # lone surrogates, too
STATIC = {
    "flags": st.integers(0, 2**16 - 1),
    "pid": U32,
    "start_ticks": U64,
    "hexversion": U32,
    "interpreter": st.integers(-1, 2**63 - 1),
    "created_ns": U64,
    "implementation": st.sampled_from([b"cpython", b"pypy", b"", b"sixteen-bytes-xx"]),
    "gil_address": st.integers(0, 2**60 - 1).map(lambda words: 8 * words),
    "gil_size": st.integers(24, table.MAX_GIL_SIZE),
    "ident_offset": st.integers(0, table.MAX_OFFSET // 8).map(lambda words: 8 * words),
    "native_offset": st.integers(0, table.MAX_OFFSET // 8).map(lambda words: 8 * words),
}


@st.composite
def slots(draw: st.DrawFn) -> bytes:
    """Return one slot as a publisher writes it, and what an earlier name has left behind it."""
    name, cut = table.encode_name(draw(ANY_TEXT))
    packed = table.pack_slot(
        draw(st.sampled_from([table.LIVE, table.ENDED])),
        cut | draw(st.sampled_from([0, table.ADOPTED, table.VISITOR])),
        draw(U64),
        draw(U32),
        *draw(st.tuples(U64, U64, U64, U64, U64)),
        name,
    )
    rest = draw(st.binary(max_size=20)).ljust(table.SLOT_SIZE, b"\0")
    return packed + rest[: table.SLOT_SIZE - len(packed)]


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """Return a header as a publisher writes it."""
    static = table.pack_static(**{key: draw(value) for key, value in STATIC.items()})  # type: ignore[arg-type]  # each strategy draws its argument's type
    data = static.ljust(table.DYNAMIC_OFFSET, b"\0") + table.DYNAMIC.pack(draw(U64), draw(U64))
    return data.ljust(table.HEADER_SIZE, b"\0")


@given(fields=st.fixed_dictionaries(STATIC), generation=U64, overflow=U64)
def test_headers_round_trip(fields: dict[str, object], generation: int, overflow: int) -> None:
    """Everything that a publisher says about itself arrives."""
    static = table.pack_static(**fields)  # type: ignore[arg-type]  # each strategy draws its argument's type
    dynamic = table.DYNAMIC.pack(generation, overflow)
    data = static.ljust(table.DYNAMIC_OFFSET, b"\0") + dynamic
    header = parse_header(data.ljust(table.HEADER_SIZE, b"\0"))
    for key in ("pid", "start_ticks", "interpreter", "created_ns"):
        assert getattr(header, key) == fields[key]
    assert header.implementation.encode() == fields["implementation"]
    gil = ("gil_address", "gil_size", "ident_offset", "native_offset")
    known = Gil(*(fields[key] for key in gil)) if fields["gil_address"] else None  # type: ignore[arg-type]  # all integers
    assert header.gil == known
    hexversion = fields["hexversion"]
    assert isinstance(hexversion, int)
    assert header.python == tuple(hexversion.to_bytes(4, "big")[:3])
    flags = fields["flags"]
    assert isinstance(flags, int)
    assert header.free_threaded == bool(flags & table.FREE_THREADED)
    assert header.closed == bool(flags & table.CLOSED)
    assert (header.generation, header.overflow) == parse_dynamic(dynamic) == (generation, overflow)


@given(
    name=ANY_TEXT,
    state=st.sampled_from([table.LIVE, table.ENDED]),
    visitor=st.booleans(),
    serial=U64,
    tid=U32,
    numbers=st.tuples(U64, U64, U64, U64, U64),
)
def test_slots_round_trip(
    *,
    name: str,
    state: int,
    visitor: bool,
    serial: int,
    tid: int,
    numbers: tuple[int, int, int, int, int],
) -> None:
    """Everything that a publisher says about a thread arrives, its name as far as it fits."""
    encoded, cut = table.encode_name(name)
    flags = cut | (table.VISITOR if visitor else 0)
    slot = parse_slot(table.pack_slot(state, flags, serial, tid, *numbers, encoded))
    assert slot is not None
    assert slot.name == encoded.decode()
    assert (slot.state, slot.cut, slot.visitor) == (state, bool(cut), visitor)
    cpu_ns = table.CPU_UNKNOWN if slot.cpu_ns is None else slot.cpu_ns
    found = (slot.ident, slot.born_ns, slot.ended_ns, cpu_ns, slot.end_serial)
    assert (slot.serial, slot.tid, *found) == (serial, tid, *numbers)


@given(name=ANY_TEXT)
def test_names_are_cut_between_characters(name: str) -> None:
    """An encoded name is valid UTF-8, fits, and is the longest such beginning of the whole."""
    encoded, cut = table.encode_name(name)
    whole = name.encode("utf-8", "backslashreplace")
    text = encoded.decode()  # strict
    assert len(encoded) <= table.NAME_BYTES
    assert whole.startswith(encoded)
    assert bool(cut) == (encoded != whole)
    if cut:
        following = whole.decode()[len(text)]
        assert len(encoded + following.encode()) > table.NAME_BYTES


@given(data=st.binary(max_size=400))
def test_any_bytes_give_a_value_or_malformed(data: bytes) -> None:
    """No other exception for whatever a target puts into its table."""
    for parse in (parse_header, parse_dynamic, parse_slot, parse_slots):
        refused = None
        try:
            parse(data)
        except Malformed as error:
            refused = error.source
        assert refused in (None, "table")


@given(data=headers(), rest=st.data())
def test_damaged_headers_give_a_value_or_malformed(data: bytes, rest: st.DataObject) -> None:
    """A header with one byte changed is refused, unless the byte says nothing about who publishes."""
    position = rest.draw(st.integers(0, len(data) - 1))
    byte = rest.draw(st.integers(0, 255).filter(lambda value: value != data[position]))
    changed = data[:position] + bytes([byte]) + data[position + 1 :]
    sealed = position < table.STATIC_SIZE + table.CRC.size
    flags = table.FLAGS_OFFSET <= position < table.FLAGS_OFFSET + 2
    if sealed and not flags:
        with pytest.raises(Malformed):
            parse_header(changed)
    else:
        assert parse_header(changed).pid == parse_header(data).pid


@given(data=slots(), rest=st.data())
def test_a_changed_byte_of_a_slot_is_noticed(data: bytes, rest: st.DataObject) -> None:
    """One byte changed in the fields or the name never gives another thread."""
    slot = parse_slot(data)
    assert slot is not None
    length = int.from_bytes(data[6:8], "little")
    position = rest.draw(st.integers(0, table.SLOT_HEAD + length - 1))
    byte = rest.draw(st.integers(0, 255).filter(lambda value: value != data[position]))
    with pytest.raises(Malformed):
        parse_slot(data[:position] + bytes([byte]) + data[position + 1 :])


@given(before=slots(), after=slots(), written=st.integers(0, table.SLOT_SIZE))
def test_a_write_under_way_never_gives_a_mixture(before: bytes, after: bytes, written: int) -> None:
    """A reader who comes in the middle of a write finds the old slot, the new one, or a torn one."""
    mixture = after[:written] + before[written:]
    try:
        slot = parse_slot(mixture)
    except Malformed:
        return
    assert slot in (parse_slot(before), parse_slot(after))


@given(
    run=st.lists(slots() | st.just(bytes(table.SLOT_SIZE)), max_size=6),
    torn=st.sets(st.integers(0, 5)),
    first=st.integers(0, 1000),
)
def test_runs_are_their_slots(run: list[bytes], torn: set[int], first: int) -> None:
    """Each slot is parsed as if it were alone; torn ones are counted, empty ones are not there."""
    torn = {index for index in torn if index < len(run) and any(run[index])}
    data = [
        bytes([slot[0] ^ 1]) + slot[1:] if index in torn else slot for index, slot in enumerate(run)
    ]
    expected = [
        (first + index, parse_slot(slot))
        for index, slot in enumerate(run)
        if any(slot) and index not in torn
    ]
    assert parse_slots(b"".join(data), first) == (expected, len(torn))


@given(
    before=st.lists(slots(), max_size=5),
    after=st.lists(slots(), max_size=5),
    same=st.sets(st.integers(0, 4)),
)
def test_known_slots_and_new_ones_are_all(
    before: list[bytes], after: list[bytes], same: set[int]
) -> None:
    """What was parsed before, with what has changed since, is what a full parse gives."""
    after = [
        before[index] if index in same and index < len(before) else slot
        for index, slot in enumerate(after)
    ]
    merged = dict(parse_slots(b"".join(before))[0])
    merged.update(parse_slots(b"".join(after), known=b"".join(before))[0])
    full = dict(parse_slots(b"".join(after))[0])
    assert {index: merged[index] for index in full} == full
