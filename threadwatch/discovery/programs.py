"""Finds out whether a process has a Python in it, whatever its program is called.

It has one if its program's own file contains the interpreter: a Python under another name, or a
program that is linked with all of Python. It also has one if it uses a libpython: that is mapped,
and most of its code has been run. Editors and debuggers are linked with a libpython that most of
their processes never call; then only a few pages of it are in their page tables.

Files of programs are read once: they are known by inode and time of change.
"""

from __future__ import annotations

from threadwatch.errors import ReadError
from threadwatch.procfs import ProcessDir, ProgramFile
from threadwatch.procfs.elf import (
    HEADER_SIZE,
    Region,
    exports,
    has_section,
    parse_elf_header,
    parse_sections,
)
from threadwatch.procfs.maps import libpython_in_use, maps_libpython

_SYMBOL = b"Py_BytesMain"
"""The symbol that every interpreter since CPython 3.8 exports for its own main()."""
_SECTION = b".PyRuntime"
"""The section in which CPython since 3.13 has its state, for debuggers."""
_IN_USE = 0.25
"""The share of libpython's code from which it counts as used: between the measured values of both cases."""
_MOST_MAPS = 1 << 22
"""The most bytes of maps, and of smaps, that are read."""
_MOST_KNOWN = 4096
"""The most programs that are remembered."""


class Programs:
    """Examines processes, and remembers their programs' files."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], bool] = {}

    def has_python(self, process: ProcessDir) -> bool:
        """Return whether there is a Python in a process; False if that may not be read.

        Its reads can wait for the lock ``memory``. Raises :class:`Gone`.
        """
        try:
            if self._is_interpreter(process):
                return True
        except ReadError:
            pass  # a program may be executable and not readable
        try:
            return maps_libpython(process.read_maps("maps", _MOST_MAPS)) and (
                libpython_in_use(process.read_maps("smaps", _MOST_MAPS)) >= _IN_USE
            )
        except ReadError:
            return False

    def _is_interpreter(self, process: ProcessDir) -> bool:
        with process.open_program() as file:
            known = self._known.get(file.identity)
            if known is None:
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                known = self._known[file.identity] = _has_interpreter(file)
            return known


def _has_interpreter(file: ProgramFile) -> bool:
    """Return whether the file exports an interpreter. Raises :class:`ReadError`."""
    place, names = parse_elf_header(file.read(0, HEADER_SIZE))
    sections = parse_sections(_bytes_of(file, place), names)
    return has_section(sections.table, _bytes_of(file, sections.names), _SECTION) or exports(
        _bytes_of(file, sections.symbols), _bytes_of(file, sections.strings), _SYMBOL
    )


def _bytes_of(file: ProgramFile, region: Region | None) -> bytes:
    return file.read(region.offset, region.size) if region else b""
