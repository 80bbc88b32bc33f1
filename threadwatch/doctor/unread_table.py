"""Tells what became of the table of a process of which none is read."""

from __future__ import annotations

from contextlib import suppress

from threadwatch.doctor.findings import TableState
from threadwatch.errors import Gone
from threadwatch.names.ownership import check_owner, clocks_ahead
from threadwatch.names.slots import parse_header
from threadwatch.procfs import TableFile, find_tables
from threadwatch.publisher import layout
from threadwatch.targets.process import Process


def state_of_table(watched: Process, details: list[str]) -> TableState:
    """Return why no table of the process's own has been found; add what more there is to say to ``details``.

    :raises ReadError: its descriptors or a table cannot be read.
    """
    states: list[TableState] = []
    for fd in find_tables(watched.dir):
        with suppress(Gone), watched.dir.open_table(fd) as file:
            state = _state_of(watched, file, details)
            # A watching process, as we are, has others' tables open for reading.
            if state != "another's" or watched.dir.is_open_for_writing(fd):
                states.append(state)
    # A fork leaves another process's table, which does not matter if the process has its own.
    return next((s for s in states if s != "another's"), states[0] if states else "none")


def _state_of(watched: Process, file: TableFile, details: list[str]) -> TableState:
    data = file.read_header()
    if not any(data):
        return "unfinished"
    version = _layout_version(data)
    if version not in (None, layout.VERSION):
        details.append(f"table: has layout {version}, not {layout.VERSION}")
        return "other layout"
    began = watched.key.start_ticks
    header = parse_header(data).by_our_clock(clocks_ahead(watched.dir).boottime_ns, began)
    if not header.names(watched.ns_pid, began):
        return "another's"
    check_owner(watched.dir, file)
    return "closed" if header.closed else "unfinished"


def _layout_version(data: bytes) -> int | None:
    """Return the version of the layout that a table claims; None: it is no table."""
    if len(data) < layout.STATIC.size:
        return None
    magic, version = layout.STATIC.unpack_from(data)[:2]
    return version if magic == layout.MAGIC else None
