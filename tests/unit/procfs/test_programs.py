"""What is in programs' files and in their maps, as far as Python is concerned."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from threadwatch.errors import Malformed
from threadwatch.procfs import elf, maps

ADDRESSES = "7f75f66f5000-7f75f6931000 r-xp 000f5000 fe:00 26933    "
LINE = "/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0"
SMAPS = """Size:               2288 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
Rss:                {rss} kB
Pss:                   0 kB
"""


def sections_of(data: bytes) -> elf.Sections:
    """Return the sections of an ELF file."""
    place, names = elf.parse_elf_header(data)
    return elf.parse_sections(part(data, place), names)


def part(data: bytes, region: elf.Region | None) -> bytes:
    """Return that part of a file."""
    return data[region.offset : region.offset + region.size] if region else b""


def test_a_real_program() -> None:
    """What a real program exports is told from what it only uses, and its sections are known by name."""
    data = Path("/bin/bash").read_bytes()
    sections = sections_of(data)
    symbols, strings = part(data, sections.symbols), part(data, sections.strings)
    assert elf.exports(symbols, strings, b"rl_readline_version")
    assert not elf.exports(symbols, strings, b"Py_BytesMain")
    assert b"strlen\0" in strings
    assert not elf.exports(symbols, strings, b"strlen")
    names = part(data, sections.names)
    assert elf.has_section(sections.table, names, b".text")
    assert not elf.has_section(sections.table, names, b".PyRuntime")


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"#!/bin/sh\n" + bytes(100), bytes(64)])
def test_what_is_no_program(data: bytes) -> None:
    """Anything else is malformed."""
    with pytest.raises(Malformed):
        elf.parse_elf_header(data)


def test_a_table_of_sections_that_is_cut_or_wrong() -> None:
    """Damage gives nothing, or Malformed."""
    header = bytearray(Path(sys.executable).resolve().read_bytes()[:64])
    assert elf.parse_sections(b"x" * 63, 3).symbols is None
    struct.pack_into("<H", header, 58, 63)
    with pytest.raises(Malformed):
        elf.parse_elf_header(bytes(header))


@pytest.mark.parametrize(
    ("path", "mapped"),
    [
        (LINE, True),
        (f"{LINE} (deleted)", True),
        ("/run/_MEI1/libpython3.12.so.1.0", True),
        ("/opt/lib/libpython3.13td.so", True),
        ("/usr/lib/libpythonic.so.1", False),
        ("/usr/lib/libpython3.11.so.d/other", False),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", False),
    ],
)
def test_a_libpython_in_maps(path: str, *, mapped: bool) -> None:
    """A libpython is known by its name, wherever it is, and also when it has been replaced since."""
    assert maps.maps_libpython(f"{ADDRESSES}{path}\n".encode()) is mapped
    data = f"{ADDRESSES.replace('r-xp', 'rw-p')}{path}\n".encode()
    assert not maps.maps_libpython(data)


def test_how_much_of_a_libpython_is_used() -> None:
    """Pages of code that are in the process's page tables count, of all parts of the code."""
    used = (ADDRESSES + LINE + "\n" + SMAPS.format(rss=2288)).encode()
    hardly = (ADDRESSES + LINE + "\n" + SMAPS.format(rss=104)).encode()
    assert maps.libpython_in_use(used) == 1.0
    assert maps.libpython_in_use(hardly) == pytest.approx(104 / 2288)
    assert maps.libpython_in_use(hardly + used) == pytest.approx((104 + 2288) / 4576)
    assert maps.libpython_in_use(used[:100]) == 0.0
    assert maps.libpython_in_use(b"") == 0.0
