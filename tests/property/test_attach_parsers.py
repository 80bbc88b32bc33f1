"""What is read of a process before it is changed: any bytes give a value or one error."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from struct import Struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadwatch.attach.memory import parse_writable
from threadwatch.attach.offsets import SIZES, parse_offsets
from threadwatch.errors import Malformed
from threadwatch.names.memory.offsets import COOKIE

MAPS = Path("/proc/self/maps").read_bytes()
WORD = Struct("<Q")
VERSIONS = {14: 0x030E08F0, 15: 0x030F00F0}
FIELDS = {
    14: dict(zip(range(712, 760, 8), (24, 600, 5000, 0, 4, 512), strict=True)),
    15: dict(zip(range(840, 888, 8), (24, 600, 5000, 0, 4, 512), strict=True)),
}


def described(minor: int, **changes: int) -> bytes:
    """Return the description of a Python whose structures have 8,192, 4,096 and 2,048 bytes."""
    words = {
        8: VERSIONS[minor],
        24: 8192,
        32: 800,
        40: 808,
        48: 6000,
        56: 8,
        64: 16,
        72: 24,
        80: 32,
    }
    words |= {176: 2048, 184: 0, 192: 8, 200: 16, 224: 160, 248: 160} | FIELDS[minor]
    words |= {int(at[1:]): value for at, value in changes.items()}
    data = bytearray(SIZES[minor])
    data[:8] = COOKIE
    for at, value in words.items():
        WORD.pack_into(data, at, value)
    return bytes(data)


@given(st.binary() | st.binary(max_size=900).map(lambda tail: COOKIE + tail))
def test_any_description_is_one_or_one_error(data: bytes) -> None:
    """Any bytes are a description or Malformed."""
    with suppress(Malformed):
        parse_offsets(data)


@given(
    st.sampled_from(sorted(SIZES)),
    st.dictionaries(st.integers(1, 110), st.integers(0, (1 << 64) - 1), max_size=3),
)
def test_no_offset_leads_out_of_its_structure(minor: int, changes: dict[int, int]) -> None:
    """Whatever the fields say, what is believed lies within its structure."""
    try:
        found = parse_offsets(
            described(minor, **{f"w{8 * n}": v for n, v in changes.items() if 8 * n < SIZES[minor]})
        )
    except Malformed:
        return
    assert found.path + found.path_size <= found.thread_size <= 1 << 24
    assert max(found.pending + 4, found.breaker + 8, found.native_id + 8) <= found.thread_size
    assert found.enabled + 4 <= found.interpreter_size <= 1 << 24


@pytest.mark.parametrize("minor", sorted(SIZES))
def test_a_description_is_read(minor: int) -> None:
    """The fields are where CPython has them."""
    found = parse_offsets(described(minor))
    assert (found.breaker, found.enabled, found.native_id) == (24, 5000, 160)
    assert (found.pending, found.path, found.path_size) == (600, 604, 512)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"w8": 0x031000F0}, "0x31000f0, whose structures are not known"),
        ({"w8": 0x030E00B1}, "0x30e00b1, whose structures are not known"),
        ({"w8": 0x030D01F0}, "0x30d01f0, whose structures are not known"),
        ({"w0": 1}, "0x30e08f0, whose structures are not known"),
        ({"w752": 1 << 20}, "room for a path of 1048576 bytes"),
        ({"w720": 2000}, "point behind a structure of 2048 bytes"),
    ],
)
def test_what_is_not_known_is_refused(changes: dict[str, int], why: str) -> None:
    """Another version, one that is not finished, and offsets that cannot be are refused."""
    with pytest.raises(Malformed, match=why):
        parse_offsets(described(14, **changes))


@given(st.binary() | st.binary().map(lambda tail: MAPS[: len(tail) * 50] + tail))
def test_any_maps_are_a_list_of_regions(data: bytes) -> None:
    """Any bytes are a list of regions that have a size."""
    assert all(region.start < region.end for region in parse_writable(data))


def test_regions_are_private_and_writable() -> None:
    """What the process cannot write, and what it shares, is left out."""
    data = (
        b"00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/python3.14\n"
        b"00651000-00652000 rw-p 00051000 08:02 173521      /usr/bin/python3.14\n"
        b"00e03000-00e24000 rw-p 00000000 00:00 0           [heap]\n"
        b"35b1a21000-35b1a22000 rw-s 00000000 00:05 3       /dev/zero\n"
        b"7f0000000000-7f0000001000 rwxp 00000000 00:00 0 \n"
    )
    assert [(r.start, r.end, r.path) for r in parse_writable(data)] == [
        (0x651000, 0x652000, b"/usr/bin/python3.14"),
        (0xE03000, 0xE24000, b"[heap]"),
        (0x7F0000000000, 0x7F0000001000, b""),
    ]
