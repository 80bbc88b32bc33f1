"""Parses ``/proc/PID/maps`` and ``smaps`` (proc_pid_maps(5)): mapped files, a libpython among them."""

from __future__ import annotations

import re
from collections.abc import Iterator

_PATH = 5
"""The fields in front of a path: addresses, rights, offset, device, inode."""
_LIBRARY = re.compile(rb"/libpython[0-9][^/\n]{0,40}\.so[^/\n]{0,40}\n")
_CODE = re.compile(rb"[0-9a-f]+-[0-9a-f]+ ..x.")
"""The beginning of the line of an executable mapping."""
_SIZES = re.compile(rb"Size: +([0-9]{1,12}) kB\n(?:[A-Z][^\n]*\n){0,3}?Rss: +([0-9]{1,12}) kB\n")


def parse_maps(data: bytes) -> frozenset[str]:
    """Return the mapped files, with `` (deleted)`` behind those without a name. Accepts any bytes.

    The kernel writes a newline in a name as ``\\012``, and it stays so.
    """
    lines = (line.split(None, _PATH) for line in data.split(b"\n"))
    paths = (fields[_PATH] for fields in lines if len(fields) > _PATH)
    return frozenset(path.decode("utf-8", "replace") for path in paths if path.startswith(b"/"))


def maps_libpython(maps: bytes) -> bool:
    """Return whether the code of a libpython is mapped."""
    return next(_code_of_libpython(maps), None) is not None


def libpython_in_use(smaps: bytes) -> float:
    """Return the share of libpython's code that is in the process's page tables, from 0 to 1.

    A libpython that is only loaded has a few pages of its start-up code there. The start of an
    interpreter runs most of the rest (at least 0.85 with CPython 3.9 to 3.13, against 0.03 to
    0.09).
    """
    size = resident = 0
    for end in _code_of_libpython(smaps):
        if found := _SIZES.match(smaps, end):
            size += int(found[1])
            resident += int(found[2])
    return min(resident / size, 1.0) if size else 0.0


def _code_of_libpython(maps: bytes) -> Iterator[int]:
    """Yield the ends of the lines of libpython's executable mappings."""
    for found in _LIBRARY.finditer(
        maps
    ):  # mostly a search for plain bytes: these files can be long
        if _CODE.match(maps, maps.rfind(b"\n", 0, found.start()) + 1):
            yield found.end()
