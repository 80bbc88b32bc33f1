"""The publisher's end of a table, read back as a daemon reads it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from threadwatch.names.slots import Gil, Slot, TableHeader, parse_header, parse_slots
from threadwatch.publisher import layout
from threadwatch.publisher.memfd import Table


@pytest.fixture
def table() -> Iterator[Table]:
    """Yield a table of this process."""
    table = Table(flags=0, interpreter=0, implementation="cpython", hexversion=sys.hexversion)
    yield table
    table.close()


def header(table: Table) -> TableHeader:
    """Return its header."""
    return parse_header(os.pread(table.descriptor, layout.HEADER_SIZE, 0))


def slots(table: Table, count: int = layout.CHUNK) -> list[Slot]:
    """Return its first slots, in order of birth."""
    data = os.pread(table.descriptor, count * layout.SLOT_SIZE, layout.HEADER_SIZE)
    found, torn = parse_slots(data)
    assert torn == 0
    return sorted((slot for _, slot in found), key=lambda slot: slot.serial)


def test_a_life(table: Table) -> None:
    """A thread is there from its birth; its end tells its CPU time, once and for all."""
    record = table.add(11, 12, "one")
    assert record is not None
    (slot,) = slots(table)
    assert (slot.state, slot.tid, slot.ident, slot.name) == (layout.LIVE, 11, 12, "one")
    table.rename(record, "another")
    table.end(record, 5)
    table.end(record, 99)
    (slot,) = slots(table)
    assert (slot.state, slot.name, slot.cpu_ns) == (layout.ENDED, "another", 5)
    assert (slot.serial, slot.end_serial) == (1, 1)
    assert slot.born_ns <= slot.ended_ns
    assert table.records == {}


def test_the_gil_is_told() -> None:
    """What was found of the GIL stands in the header."""
    table = Table(
        flags=0,
        interpreter=0,
        implementation="cpython",
        hexversion=sys.hexversion,
        gil=(0x1000, 208, 152, 160),
    )
    assert header(table).gil == Gil(0x1000, 208, 152, 160)
    table.close()


def test_births_and_ends_are_numbered(table: Table) -> None:
    """Births are numbered from 1, and so are ends, each in their own order."""
    records = [table.add(tid, tid, f"thread {tid}") for tid in range(1, 4)]
    for record in reversed(records):
        assert record is not None
        table.end(record, layout.CPU_UNKNOWN)
    assert [(slot.serial, slot.end_serial, slot.cpu_ns) for slot in slots(table)] == [
        (1, 3, None),
        (2, 2, None),
        (3, 1, None),
    ]


def test_every_change_is_a_new_generation(table: Table) -> None:
    """A reader can tell by the header alone that something has changed."""
    seen = [header(table).generation]
    record = table.add(11, 11, "one")
    assert record is not None
    seen.append(header(table).generation)
    table.rename(record, "two")
    seen.append(header(table).generation)
    table.end(record, 1)
    seen.append(header(table).generation)
    assert seen == sorted(set(seen))


def test_an_ended_slot_is_kept_until_enough_others_have_ended(table: Table) -> None:
    """Short lives, one after the other, use new slots until as many are kept as are promised."""
    for number in range(layout.RETAIN_SLOTS + 100):
        record = table.add(11, 11, str(number))
        assert record is not None
        table.end(record, number)
    kept = slots(table, layout.RETAIN_SLOTS + 4 * layout.CHUNK)
    assert len(kept) <= layout.RETAIN_SLOTS + layout.CHUNK
    newest = [str(number) for number in range(100, layout.RETAIN_SLOTS + 100)]
    assert [slot.name for slot in kept][-layout.RETAIN_SLOTS :] == newest


def test_threads_that_find_no_slot_are_counted(table: Table) -> None:
    """A table that is full of living threads says how many more there are, and harms no one."""
    for tid in range(layout.CAPACITY):
        assert table.add(tid, tid, "") is not None
    assert table.add(1, 1 << 40, "one too many") is None
    assert table.add(1, 1 << 41, "another") is None
    assert header(table).overflow == 2
    first = table.records[0]
    table.end(first, 1)
    assert table.add(2, 1 << 42, "in the place of one that has ended") is not None


def test_a_table_that_is_left_says_so(table: Table) -> None:
    """After close, a reader that still holds the table must not believe it."""
    held = os.dup(table.descriptor)
    table.close()
    table.close()
    assert parse_header(os.pread(held, layout.HEADER_SIZE, 0)).closed
    os.close(held)
