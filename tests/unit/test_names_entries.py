"""The entries of ``threading._active``: which are told to be gone or new, and which are compared when."""

from __future__ import annotations

import ctypes
import random
import struct

import pytest

from tests.unit.test_names_memory import own_python, python_of_tests
from threadwatch.names.memory.chain import Chain, Entry
from threadwatch.names.memory.entries import Entries
from threadwatch.names.memory.holdings import ALL, IN_TURN, Batch, Held, Holdings
from threadwatch.names.memory.pages import Pages
from threadwatch.names.memory.roots import Root


class Same:
    """An int or a Thread of a test: only where it is counts."""


def entries_of(a_dict: dict[object, object]) -> set[Entry]:
    """Return the entries as they are read: by address."""
    return {(id(key), id(value)) for key, value in a_dict.items()}


@pytest.mark.parametrize("seed", range(5))
def test_what_is_gone_and_new(seed: int) -> None:
    """Each entry that a dict loses or gains between two readings is told, in any layout of the dict."""
    memory, _ = own_python()
    a_dict: dict[object, object] = {Same(): Same() for _ in range(500)}
    entries = Entries(python_of_tests(), id(a_dict))
    assert entries.read(memory, 1000) == (frozenset(), frozenset(entries_of(a_dict)))
    chosen = random.Random(seed)
    for size in [0, 1, 1, 2, 40, 0, 700, 1, 3, 900, 1, 0, 5]:
        before = entries_of(a_dict)
        kept = list(a_dict.items())  # so that no address is used again
        for key in chosen.sample(list(a_dict), min(size, len(a_dict) // 2)):
            del a_dict[key]
        for _ in range(size):
            a_dict[Same()] = Same()
        now = entries_of(a_dict)
        changes = frozenset(before - now), frozenset(now - before)
        assert entries.read(memory, 5000) == changes
        del kept


def chain(number: int) -> Chain:
    """Return a chain whose name shows in one word of its own."""
    watched = (((0x1000 * (number // 20) + 8 * (number % 20), 8), struct.pack("<Q", number)),)
    return Chain((number, number), number, 5000 + number, str(number), False, (), (), watched)


def holdings(count: int) -> Holdings:
    """Return that many confirmed chains."""
    held = Holdings(python_of_tests(), Root(0, 0, 0))
    for number in range(1, count + 1):
        held.hold(chain(number), 7, 0)
        held.confirm(held.held[number, number])
    return held


def compared(batches: list[Batch], others: list[Held]) -> set[int]:
    """Return the TIDs of those."""
    return {held.tid for batch in batches for held in batch.members} | {held.tid for held in others}


@pytest.mark.parametrize("count", [1, ALL, ALL + 1, 1000, 3000])
def test_each_has_its_turn(count: int) -> None:
    """What has run is compared at once, and everything else after a poll for each :data:`IN_TURN` of them."""
    held = holdings(count)
    ran = {1, count // 2 + 1, count}
    seen: set[int] = set()
    for _ in range(-(-count // IN_TURN)):
        now = compared(*held.to_compare(ran))
        assert ran <= now
        assert len(now) <= max(ALL, 2 * IN_TURN + len(ran) * 4)
        seen |= now
    assert seen == set(range(1, count + 1))


def test_what_is_let_go_is_found_nowhere() -> None:
    """Of chains that are let go in any order, none is compared or found again; the others all are."""
    held = holdings(1000)
    left = set(range(1, 1001))
    chosen = random.Random(3)
    for gone in chosen.sample(sorted(left), 990):
        held.forget([gone], {})
        left.discard(gone)
        assert held.tid_of_ident(5000 + gone) is None
        assert not held.of_thread(gone)
    assert (
        compared(*held.to_compare(()))
        == left
        == set(map(held.tid_of_ident, [5000 + t for t in left]))
    )
    assert held.to_follow == {(t, t) for t in range(1, 1001)} - {(t, t) for t in left}


def test_failures_are_tried_again_later() -> None:
    """An entry that leads nowhere is followed again after 1, 2, 4 … 32 updates, or when that is asked for."""
    held = holdings(0)
    held.to_follow.add((1, 1))
    tried = []
    for update in range(140):
        if held.due(update):
            tried.append(update)
            held.fail((1, 1), update)
    assert tried == [0, 1, 3, 7, 15, 31, 63, 95, 127]
    held.retry()
    assert held.due(140) == [(1, 1)]


def test_pages_tell_whose_bytes_have_changed() -> None:
    """Of places that are read together, those are told where other bytes are, or none that can be read."""
    own = ctypes.create_string_buffer(random.Random(1).randbytes(20_000), 20_000)
    memory, _ = own_python()
    start = ctypes.addressof(own)
    steps = [(at, ((start + at, 24), own.raw[at : at + 24])) for at in range(0, 19_000, 190)]
    pages = Pages([*steps, (-1, ((8, 8), b"nowhere!"))])
    assert pages.changed(memory) == {-1}
    assert len(pages) <= 7
    own[190 * 3 + 23] = bytes([own.raw[190 * 3 + 23] ^ 1])
    assert pages.changed(memory) == {-1, 190 * 3}
