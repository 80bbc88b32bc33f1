"""Finds a process's loaded images, and their exported symbols, in its memory: it opens no file of its.

The auxiliary vector (getauxval(3)) tells where the executable's program headers are. Its dynamic section has
the dynamic linker's list of what is loaded (``struct r_debug``, ``struct link_map``: link.h, the same in
glibc and musl), and each of those a hash table of its symbols (elf(5); ``DT_GNU_HASH``: binutils, elf.h). A
stripped program has all that in memory: it could not be run without.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from threadwatch.errors import Malformed, ReadError
from threadwatch.names.memory.snapshot import SOURCE, Snapshot, half, word

_AT_PHDR, _AT_PHNUM = 3, 5
_LOAD, _DYNAMIC, _PHDR = 1, 2, 6  # PT_…
_WRITABLE = 2  # PF_W
_HASH, _STRTAB, _SYMTAB, _DEBUG, _GNU_HASH = 4, 5, 6, 21, 0x6FFFFEF5  # DT_…
# p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align
_PROGRAM_HEADER = Struct("<IIQQQQQQ")
# st_name, st_info, st_other, st_shndx, st_value, st_size
_SYMBOL = Struct("<IBBHQQ")
_MOST_HEADERS = 64
_MOST_TAGS = 256
_MOST_IMAGES = 400
_MOST_STEPS = 256
"""Symbols with one hash value that are looked at."""
_LONGEST_PATH = 256
_PAGE_BITS = 0xFFF
_U32, _U64 = (1 << 32) - 1, (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the executable, or of a library, in memory: by its program header."""

    kind: int
    flags: int
    address: int
    """As it is in the file; what it has been moved by comes on top."""
    size: int


@dataclass(frozen=True, slots=True)
class Image:
    """The executable, or a library that is loaded."""

    name: str
    """Its path; empty for the executable."""
    base: int
    """What its addresses have been moved by."""
    dynamic: int
    """Where its dynamic section is; 0: it has none."""
    segments: tuple[Segment, ...] = ()
    """Of the executable alone."""

    @property
    def file(self) -> str:
        """Return the last part of its path."""
        return self.name.rpartition("/")[2]


def parse_auxv(data: bytes) -> tuple[int, int]:
    """Return where the executable's program headers are, and how many: ``/proc/PID/auxv``.

    :raises Malformed: it does not say, as that of a kernel thread.
    """
    values = {word(data, at): word(data, at + 8) for at in range(0, len(data) - 15, 16)}
    address, count = values.get(_AT_PHDR, 0), values.get(_AT_PHNUM, 0)
    if not address or not 0 < count <= _MOST_HEADERS:
        raise Malformed("auxv", "tells of no program")
    return address, count


def parse_segments(data: bytes) -> tuple[Segment, ...]:
    """Return the segments that these program headers tell of."""
    whole = data[: len(data) // _PROGRAM_HEADER.size * _PROGRAM_HEADER.size]
    return tuple(
        Segment(kind, flags, address, size)
        for kind, flags, _, address, _, _, size, _ in _PROGRAM_HEADER.iter_unpack(whole)
    )


def find_images(memory: Snapshot, auxv: bytes) -> list[Image]:
    """Return the executable, and what the dynamic linker has loaded, in its order.

    Where the dynamic linker was started by name, with the program as its argument, it is itself what the
    kernel has executed: it comes last then.

    :raises Gone: the program has ended.
    :raises ReadError: it cannot be read, or is no program.
    """
    at, count = parse_auxv(auxv)
    segments = parse_segments(memory.read(at, count * _PROGRAM_HEADER.size))
    loads = [s.address for s in segments if s.kind == _LOAD]
    own = next((s.address for s in segments if s.kind == _PHDR), None)
    if own is not None:
        base = (at - own) & _U64
    elif loads:  # the first has the program headers in it
        base = ((at & ~_PAGE_BITS) - (min(loads) & ~_PAGE_BITS)) & _U64
    else:
        raise Malformed(SOURCE, "the program has no segments")
    dynamic = next(((s.address + base) & _U64 for s in segments if s.kind == _DYNAMIC), 0)
    first = Image("", base, dynamic, segments)
    debug = _tags(memory, dynamic).get(_DEBUG, 0) if dynamic else 0
    if debug:  # of what is loaded, the program comes first
        return [first, *_loaded(memory, memory.word(debug + 8))[1:]]
    linker = find_symbol(memory, first, b"_r_debug")
    return [first] if linker is None else [*_loaded(memory, memory.word(linker + 8)), first]


def writable(memory: Snapshot, images: list[Image]) -> Iterator[tuple[int, int]]:
    """Return address and size of what can be written to of each image."""
    for image in images:
        segments = image.segments
        if not segments:
            try:
                head = memory.read(image.base, 64)
            except ReadError:  # a program that is loaded at the addresses of its file
                continue
            if not head.startswith(b"\x7fELF"):
                continue
            count = min(half(head, 56) & 0xFFFF, _MOST_HEADERS)
            segments = parse_segments(
                memory.read(image.base + word(head, 32), count * _PROGRAM_HEADER.size)
            )
        for segment in segments:
            if segment.kind == _LOAD and segment.flags & _WRITABLE:
                yield (segment.address + image.base) & _U64, segment.size


def find_symbol(memory: Snapshot, image: Image, name: bytes) -> int | None:
    """Return where what an image exports by this name is; None: it does not, or cannot be read.

    :raises Gone: the program has ended.
    """
    if not image.dynamic:
        return None
    try:
        tags = _tags(memory, image.dynamic)
        if _SYMTAB not in tags or _STRTAB not in tags:
            return None
        symbols = _Symbols(memory, image, tags)
        if _GNU_HASH in tags:
            return symbols.by_gnu_hash(name)
        return symbols.by_hash(name) if _HASH in tags else None
    except ReadError:
        return None


def _tags(memory: Snapshot, dynamic: int) -> dict[int, int]:
    """Return the entries of a dynamic section."""
    tags: dict[int, int] = {}
    for number in range(_MOST_TAGS):
        tag, value = memory.words(dynamic + 16 * number, 2)
        if not tag:
            break
        tags.setdefault(tag, value)
    return tags


def _loaded(memory: Snapshot, link: int) -> list[Image]:
    """Return what the dynamic linker has loaded: the program comes first in its list."""
    images: list[Image] = []
    seen = {link}
    while link and len(seen) <= _MOST_IMAGES:
        base, name, dynamic, link = memory.words(link, 4)
        if dynamic or not images:
            path = memory.string(name, _LONGEST_PATH) if name else b""
            images.append(Image(path.decode("utf-8", "replace"), base, dynamic))
        if link in seen:
            break
        seen.add(link)
    return images


class _Symbols:
    """An image's exported symbols."""

    def __init__(self, memory: Snapshot, image: Image, tags: dict[int, int]) -> None:
        self._memory = memory
        self._base = image.base
        self._tags = tags
        self._symbols = self._place(_SYMTAB)
        self._strings = self._place(_STRTAB)

    def _place(self, tag: int) -> int:
        """Return where that part is: glibc has added the base to its address, musl and the kernel do not."""
        value = self._tags[tag]
        return value if value >= self._base else value + self._base

    def by_gnu_hash(self, name: bytes) -> int | None:
        read, table = self._memory.read, self._place(_GNU_HASH)
        value = 5381
        for byte in name:
            value = (value * 33 + byte) & _U32
        head = read(table, 16)
        buckets, first, words, shift = (half(head, at) for at in (0, 4, 8, 12))
        if not buckets or not words or shift > 31:
            return None
        bloom = self._memory.word(table + 16 + 8 * (value // 64 % words))
        if not bloom >> value % 64 & bloom >> (value >> shift) % 64 & 1:
            return None
        start = table + 16 + 8 * words
        number = half(read(start + 4 * (value % buckets), 4), 0)
        chain = start + 4 * buckets
        for _ in range(_MOST_STEPS):
            if number < first:
                return None
            entry = half(read(chain + 4 * (number - first), 4), 0)
            if entry | 1 == value | 1 and (found := self._if_named(number, name)) is not None:
                return found
            if entry & 1:
                return None
            number += 1
        return None

    def by_hash(self, name: bytes) -> int | None:
        read, table = self._memory.read, self._place(_HASH)
        value = 0
        for byte in name:
            value = (value << 4) + byte
            high = value & 0xF0000000
            value = (value ^ high >> 24) & ~high & _U32
        buckets = half(read(table, 8), 0)
        if not buckets:
            return None
        number = half(read(table + 8 + 4 * (value % buckets), 4), 0)
        for _ in range(_MOST_STEPS):
            if not number:
                return None
            if (found := self._if_named(number, name)) is not None:
                return found
            number = half(read(table + 8 + 4 * (buckets + number), 4), 0)
        return None

    def _if_named(self, number: int, name: bytes) -> int | None:
        """Return the address of that symbol, if it has this name and is defined here."""
        entry = self._memory.read(self._symbols + _SYMBOL.size * number, _SYMBOL.size)
        text, _, _, section, value, _ = _SYMBOL.unpack(entry)
        wanted = name + b"\0"
        if section and self._memory.read(self._strings + text, len(wanted)) == wanted:
            return int(self._base + value) & _U64
        return None
