"""Parses ELF files (elf(5)) as far as needed to find a program's sections and exported symbols.

Pure and total: any bytes give a value or :class:`Malformed`. Only 64-bit little-endian files are
parsed, as on all machines that the tests run on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from struct import Struct

from threadwatch.errors import Malformed

HEADER_SIZE = 64
"""Bytes of a file for :func:`parse_elf_header`."""
MOST = 1 << 22
"""No larger region of a file is read."""

_SOURCE = "exe"
_MAGIC = b"\x7fELF\x02\x01"
# e_shoff, e_flags, e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx; at offset 40
_HEADER = Struct("<QIHHHHHH")
# sh_name, sh_type, sh_flags, sh_addr, sh_offset, sh_size, sh_link, sh_info, sh_addralign, sh_entsize
_SECTION = Struct("<IIQQQQIIQQ")
_DYNSYM = 11  # SHT_DYNSYM
# st_name, st_info, st_other, st_shndx, st_value, st_size
_SYMBOL = Struct("<IBBHQQ")


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a file, cut to :data:`MOST` bytes."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Sections:
    """The regions that :func:`has_section` and :func:`exports` need; None: the file has none."""

    table: bytes
    names: Region | None
    symbols: Region | None
    strings: Region | None


def parse_elf_header(data: bytes) -> tuple[Region, int]:
    """Return the region of the table of sections, and the index of the section with their names."""
    if len(data) < HEADER_SIZE or not data.startswith(_MAGIC):
        raise Malformed(_SOURCE, "is no ELF file of 64 bits")
    offset, _, _, _, _, entry_size, count, names = _HEADER.unpack_from(data, 40)
    if count and entry_size != _SECTION.size:
        raise Malformed(_SOURCE, f"has sections of {entry_size} bytes, not of {_SECTION.size}")
    return _region(offset, count * _SECTION.size), names


def parse_sections(table: bytes, names: int) -> Sections:
    """Return the regions to read; ``names`` is from :func:`parse_elf_header`."""
    sections = list(_SECTION.iter_unpack(table[: len(table) // _SECTION.size * _SECTION.size]))

    def region(number: int) -> Region | None:
        return _region(*sections[number][4:6]) if number < len(sections) else None

    exported = next((s for s in sections if s[1] == _DYNSYM), None)
    return Sections(
        table=table,
        names=region(names),
        symbols=_region(*exported[4:6]) if exported else None,
        strings=region(exported[6]) if exported else None,
    )


def has_section(table: bytes, names: bytes, name: bytes) -> bool:
    """Return whether one of the sections has this name."""
    usable = table[: len(table) // _SECTION.size * _SECTION.size]
    wanted = name + b"\0"
    return any(names.startswith(wanted, section[0]) for section in _SECTION.iter_unpack(usable))


def exports(symbols: bytes, strings: bytes, name: bytes) -> bool:
    """Return whether a symbol of this name is defined there, rather than only used."""
    # A name can be the end of a longer one.
    starts = {found.start() for found in re.finditer(re.escape(name + b"\0"), strings)}
    usable = symbols[: len(symbols) // _SYMBOL.size * _SYMBOL.size]
    return bool(starts) and any(
        symbol[0] in starts and symbol[3] != 0 for symbol in _SYMBOL.iter_unpack(usable)
    )


def _region(offset: int, size: int) -> Region:
    return Region(offset, min(size, MOST))
