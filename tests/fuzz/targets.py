"""What each parser of foreign bytes promises, as functions that raise where the promise is broken.

A target takes any bytes. It lets pass the one error that its parser may raise, and nothing else. Both
the fuzzer (``./dev fuzz``) and hypothesis (``tests/property/test_fuzz.py``) run them.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
from binascii import crc32
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from prometheus_client import Metric

from threadwatch.commands import log
from threadwatch.config.defaults import DEFAULT_RULES
from threadwatch.config.parse import parse_config
from threadwatch.config.settings import describe_config
from threadwatch.errors import ConfigError, Gone, Malformed, ReadError
from threadwatch.labels.applications import application_name, is_python
from threadwatch.labels.groups import ThreadNames
from threadwatch.metrics.exposition import Format, accepts_gzip, encode, negotiate
from threadwatch.model.keys import OTHER, UNATTRIBUTED
from threadwatch.names.published import Published
from threadwatch.names.slots import Gil, parse_dynamic, parse_header, parse_slots
from threadwatch.procfs import (
    ProcFS,
    decode_comm,
    parse_cgroup,
    parse_clock_offsets,
    parse_cmdline,
    parse_cpu_stat,
    parse_fdinfo,
    parse_io,
    parse_root,
    parse_schedstat,
    parse_stat,
    parse_status,
    parse_switches,
    parse_syscall,
    parse_waited,
)
from threadwatch.procfs.credentials import parse_credentials
from threadwatch.procfs.elf import parse_elf_header, parse_sections
from threadwatch.procfs.environ import parse_environ
from threadwatch.procfs.limits import parse_file_limits
from threadwatch.procfs.maps import libpython_in_use, maps_libpython, parse_maps
from threadwatch.procfs.mountinfo import parse_mountinfo
from threadwatch.publisher import layout as table
from threadwatch.waits.gil_holder import find_holder
from threadwatch.web.app import path_of
from threadwatch.web.auth.settings import parse_web_config
from threadwatch.web.listen import parse_listen_address
from threadwatch.words.from_json import parse_view
from threadwatch.words.text import cut, pad, printable, width
from threadwatch.words.to_json import view_json

_PROCFS: tuple[Callable[[bytes], object], ...] = (
    decode_comm,
    parse_clock_offsets,
    parse_cgroup,
    parse_cpu_stat,
    parse_cmdline,
    parse_credentials,
    parse_environ,
    parse_file_limits,
    parse_maps,
    parse_fdinfo,
    parse_io,
    parse_root,
    parse_schedstat,
    parse_stat,
    parse_status,
    parse_switches,
    parse_syscall,
    parse_waited,
    partial(parse_mountinfo, place="/proc"),
    parse_elf_header,
    partial(parse_sections, names=1),
    maps_libpython,
    libpython_in_use,
)
_TABLE: tuple[Callable[[bytes], object], ...] = (parse_header, parse_dynamic, parse_slots)


def procfs(data: bytes) -> None:
    """Parse every file of ``/proc``: the result is a value that can be written as UTF-8, or Malformed."""
    for parse in _PROCFS:
        with suppress(Malformed):
            repr(parse(data)).encode()


def tables(data: bytes) -> None:
    """Parse a table's header, counters and slots, as they are and with right CRCs: a value, or Malformed."""
    for parse in _TABLE:
        with suppress(Malformed):
            parse(data)
    header = bytearray(data[: table.HEADER_SIZE].ljust(table.HEADER_SIZE, b"\0"))
    _seal_header(header)
    with suppress(Malformed):
        assert parse_header(bytes(header)).capacity <= table.CAPACITY
    slot = bytearray(data[-table.SLOT_SIZE :].ljust(table.SLOT_SIZE, b"\0"))
    _seal_slot(slot, 0)
    for _, found in parse_slots(bytes(slot))[0]:
        assert len(found.name) <= table.NAME_BYTES


def reader(data: bytes) -> None:
    """Read a table that its target rewrites, cuts and closes at will: ReadError, or the reader goes on.

    The bytes are a script of such deeds. The table is one of this very process.
    """
    fd = os.memfd_create(table.NAME)
    follower = Published(ns_pid=os.getpid(), start_ticks=_start_ticks())
    try:
        image = bytearray(_honest_header()) + bytearray(8 * table.SLOT_SIZE)
        os.pwrite(fd, image, 0)
        with ProcFS().open_process(os.getpid()) as process:
            follower.find(process)
            while len(data) >= 4:
                deed, place, length = data[0], int.from_bytes(data[1:3], "little"), data[3]
                payload, data = data[4 : 4 + length], data[4 + length :]
                _do(deed % 6, place % len(image), payload, image, fd)
                with suppress(ReadError, Gone):
                    follower.find(process)
                    follower.read(process)
                _ask(follower)
        follower.last_words()
        _ask(follower)
    finally:
        follower.close()
        os.close(fd)


def config(data: bytes) -> None:
    """Parse a configuration file: a configuration that can be described, or one line of complaint."""
    try:
        found = parse_config(data, "fuzz.yml")
    except ConfigError as error:
        said = str(error)
    else:
        said = describe_config(found)
    assert "\n" not in said, said
    assert len(said) < 1000, said


def web_config(data: bytes) -> None:
    """Parse a web configuration: settings, or one line that says what is wrong."""
    try:
        said = str(parse_web_config(data, "fuzz.yml").files())
    except ConfigError as error:
        said = str(error)
    assert "\n" not in said, said
    assert len(said) < 6000, said


def names(data: bytes) -> None:
    """Names that a target has chosen: labels, log lines and terminal text stay what they are around them."""
    text = data.decode("utf-8", "surrogateescape")
    first, *rest = text.split("\0")
    label = ThreadNames(DEFAULT_RULES).series_name(first)
    assert label not in ("", OTHER, UNATTRIBUTED)
    group = application_name(exe=first, cmdline=rest, comm=first[:15])
    is_python(first, rest, first[:15])
    for value in (label, group, first):
        _exposed(value)
        _logged(value)
    shown = printable(first)
    assert shown.isprintable()
    assert width(cut(shown, 20)) <= 20
    assert width(pad(cut(shown, 20), 20)) == 20


def requests(data: bytes) -> None:
    """Parse a client's requests, never with an exception; and an operator's addresses: ValueError."""
    text = data.decode("latin-1")
    negotiate(text)
    accepts_gzip(text)
    path = path_of(text)
    assert path is None or path.startswith("/")
    with suppress(ValueError):
        str(parse_listen_address(text))


def gil(data: bytes) -> None:
    """Look at a GIL in memory that a target has filled at will: a thread holds it, or none does."""
    begin = 1 << 20

    def read(address: int, size: int) -> bytes:
        if not 0 <= address < 1 << 63:
            raise ReadError("mem", "eio")
        at = address - begin
        if at < 0 or at + size > len(data):
            raise ReadError("mem", "eio")
        return data[at : at + size]

    for known in (Gil(begin, 208, 16, 24), Gil(begin + 8, 216, 0, 0)):
        with suppress(ReadError):
            find_holder(read, known)


def view(data: bytes) -> None:
    """Parse the view of another daemon: it can be shown again, or is Malformed in one line."""
    try:
        found = parse_view(data)
    except Malformed as error:
        said = str(error)
    else:
        said = json.dumps(view_json(found))
    assert "\n" not in said, said


TARGETS: dict[str, Callable[[bytes], None]] = {
    "procfs": procfs,
    "table": tables,
    "reader": reader,
    "config": config,
    "web-config": web_config,
    "names": names,
    "requests": requests,
    "gil": gil,
    "view": view,
}
"""By the names of their directories in ``tests/fuzz/corpus``."""


def _do(deed: int, place: int, payload: bytes, image: bytearray, fd: int) -> None:
    """Do one deed of the target that :func:`reader` follows."""
    slot = max(place - table.HEADER_SIZE, 0) // table.SLOT_SIZE
    start = table.HEADER_SIZE + slot * table.SLOT_SIZE
    payload = payload[: len(image) - place]
    if deed < 4:
        image[place : place + len(payload)] = payload
    if deed == 1:
        _seal_slot(image, start)
    elif deed == 2:
        _seal_header(image)
    elif deed == 4:
        os.ftruncate(fd, place)
        return
    elif deed == 5:
        os.ftruncate(fd, place * 4096)
    # it says that something has changed, whatever it is
    at = table.DYNAMIC_OFFSET
    image[at] = (image[at] + 1) % 256
    os.pwrite(fd, image, 0)


def _ask(follower: Published) -> None:
    for ended in follower.take_ended():
        follower.tid_of_ident(ended[1].ident)
    for tid in sorted(follower.take_changed())[:16]:
        follower.slot(tid, 1)
    follower.slot(os.getpid(), _start_ticks())
    repr((follower.header, follower.gils))


def _honest_header() -> bytes:
    static = table.pack_static(
        flags=0,
        pid=os.getpid(),
        start_ticks=_start_ticks(),
        hexversion=0x030C01F0,
        interpreter=0,
        created_ns=1,
        implementation=b"cpython",
    )
    return static.ljust(table.HEADER_SIZE, b"\0")


def _start_ticks() -> int:
    with ProcFS().open_process(os.getpid()) as process:
        return parse_stat(process.read("stat", "stat")).start_ticks


def _seal_header(data: bytearray) -> None:
    at = table.FLAGS_OFFSET
    sealed = bytes(data[:at]) + b"\0\0" + bytes(data[at + 2 : table.STATIC_SIZE])
    table.CRC.pack_into(data, table.STATIC_SIZE, crc32(sealed))


def _seal_slot(data: bytearray, start: int) -> None:
    length = int.from_bytes(data[start + 6 : start + 8], "little") % (table.NAME_BYTES + 1)
    data[start + 6 : start + 8] = length.to_bytes(2, "little")
    body = bytes(data[start + table.CRC.size : start + table.SLOT_HEAD + length])
    table.CRC.pack_into(data, start, crc32(body, crc32(bytes(table.CRC.size))))


_UNESCAPED = {r"\\": "\\", r"\n": "\n", r"\"": '"'}


def _exposed(value: str) -> None:
    """Check that a label is one line, and the same when it is read back."""
    family = Metric("m", "h", "gauge")
    family.add_sample("m", {"thread": value}, 1.0)
    for form in Format:
        text = encode([family], form).decode()
        line = next(line for line in text.split("\n") if line.startswith("m{"))
        found = re.fullmatch(r'm\{thread="((?:[^"\\]|\\[\\n"])*)"\} 1(?:\.0)?', line, re.DOTALL)
        assert found, line
        back = re.sub(r"\\.", lambda escape: _UNESCAPED[escape[0]], found[1])
        assert back == value.encode("utf-8", "backslashreplace").decode(), line


def _logged(value: str) -> None:
    """Check that a log line is one line of printable ASCII, and the same when it is read back."""
    logger = logging.getLogger("threadwatch")
    before = logger.handlers[:], logger.propagate, logger.level
    try:
        for form in ("logfmt", "json"):
            with contextlib.redirect_stderr(io.StringIO()) as written:
                log.set_up(level="info", form=form)
                logger.info("m", extra={"fields": {"name": value}})
            line = written.getvalue().removesuffix("\n")
            assert line.isascii(), line
            assert line.isprintable(), line
            said = json.loads(line)["name"] if form == "json" else line.partition(" name=")[2]
            if said.startswith('"') and form == "logfmt":
                said = json.loads(said)
            assert said == value, line
    finally:
        logger.handlers[:], logger.propagate, level = before
        logger.setLevel(level)
