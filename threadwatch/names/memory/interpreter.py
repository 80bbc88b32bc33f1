"""Finds the Python in a process, once for each program: its runtime, how that is laid out, and the proof.

What is taken for offsets is believed only if they lead to what Python says of itself: ``sys.modules`` is the
interpreter's own, ``sys.__dict__`` too, and ``sys.hexversion`` is the version that the offsets are of.
:mod:`.walk` reads on from there.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import replace

from threadwatch.errors import Malformed, ReadError, Unsupported
from threadwatch.names.memory.images import Image, find_images, find_symbol, writable
from threadwatch.names.memory.offsets import (
    COOKIE,
    HEAD_SIZE,
    Offsets,
    parse_described,
    parse_head,
    tabled,
)
from threadwatch.names.memory.snapshot import PAGE, SOURCE, Snapshot, half, word
from threadwatch.names.memory.walk import (
    Dicts,
    Python,
    interpreters,
    read_int,
    thread_states,
    type_name,
)

FIRST_LOOK = 8192
"""Pages that may be read to find a Python: as many as a program with thousands of modules needs."""

_MOST_SEARCHED = 8 << 20
"""Bytes that are searched for a runtime that no symbol tells of: a static program has some 2 MiB."""
_MAYBE_3_9 = 0x030A0000
"""For 3.9 and 3.10, which export no version and are alike in all that leads to it."""
_MUSL_TID = 48
"""Where musl keeps a thread's TID on x86-64 (src/internal/pthread_impl.h), from its ident on."""


def find_python(memory: Snapshot, auxv: bytes, ns_pid: int) -> Python:
    """Return the Python of the process with this PID in its own namespace.

    :raises Gone: the program has ended.
    :raises Unsupported: there is none that can be read.
    :raises ReadError: what is there does not fit: it is just starting, for instance.
    """
    images = find_images(memory, auxv)
    runtime, image = _find_runtime(memory, images)
    size = parse_head(memory.read(runtime, HEAD_SIZE))
    if size is not None:
        offsets, version = parse_described(memory.read(runtime, size))
    else:
        told = find_symbol(memory, image, b"Py_Version") if image else None
        version = memory.word(told) if told else _MAYBE_3_9
        if version >> 24 != 3:
            raise Malformed(SOURCE, f"no CPython has version {version:#x}")
        offsets = tabled(version >> 16 & 0xFF)
    python = _prove(memory, runtime, offsets, version)
    return _with_tids(memory, python, images, ns_pid)


def _find_runtime(memory: Snapshot, images: list[Image]) -> tuple[int, Image | None]:
    """Return where ``_PyRuntime`` is, and what exports it: None, if nothing does."""
    likely = [image for image in images if not image.name or "python" in image.file]
    for image in [*likely, *(image for image in images if image not in likely)]:
        found = find_symbol(memory, image, b"_PyRuntime")
        if found is not None:
            return found, image
    for address in _cookies(memory, likely):
        try:
            if parse_head(memory.read(address, HEAD_SIZE)) is not None:
                return address, None
        except Unsupported:
            raise
        except ReadError:
            continue
    raise Unsupported(
        SOURCE,
        "no symbol tells where its Python is, nor does what 3.13 and later begin with: it is linked "
        "statically, or has none",
    )


def _cookies(memory: Snapshot, images: list[Image]) -> Iterator[int]:
    """Return where what begins a ``_PyRuntime`` of 3.13 and later is in memory that can be written to."""
    left = _MOST_SEARCHED
    for start, size in writable(memory, images):
        end = start + min(size, left)
        left -= min(size, left)
        for at in range(start & ~(PAGE - 1), end, PAGE):
            try:
                page = memory.read(at, PAGE)
            except Unsupported:
                raise
            except ReadError:
                continue
            found = page.find(COOKIE)
            while found >= 0:
                if found % 8 == 0:
                    yield at + found
                found = page.find(COOKIE, found + 1)


def _prove(memory: Snapshot, runtime: int, offsets: Offsets, version: int) -> Python:
    """Return the Python with those offsets, if they lead to what Python says of itself."""
    o = offsets
    python = Python(o, runtime, version, 0, 0, 0, 0, 0, points_to_itself=False)
    found = interpreters(memory, python)
    if not found:
        raise Malformed(SOURCE, "it has no interpreter yet, or no more")
    modules, sysdict = memory.word(found[-1] + o.modules), memory.word(found[-1] + o.sysdict)
    dict_type = memory.word(modules + o.ob_type)
    if type_name(memory, o, dict_type) != b"dict":
        raise Malformed(SOURCE, "sys.modules is no dict where it should be")
    python = replace(python, dict_type=dict_type)
    dicts = Dicts(memory, python)
    keys = dicts.keys_of(sysdict)
    layout = dicts.keys(keys)
    first = next(
        (
            key
            for key, _ in layout.pairs(
                memory.read(keys + layout.entries, layout.size * layout.count)
            )
            if key
        ),
        0,
    )
    str_type = memory.word(first + o.ob_type)
    if type_name(memory, o, str_type) != b"str":
        raise Malformed(SOURCE, "the keys of sys.__dict__ are no str")
    python = replace(python, str_type=str_type)
    dicts = Dicts(memory, python)
    own = dicts.values(sysdict, frozenset({b"modules", b"hexversion"}))
    if len(own) != 2 or own[b"modules"][1] != modules:
        raise Malformed(SOURCE, "sys.modules is another")
    number = own[b"hexversion"][1]
    int_type = memory.word(number + o.ob_type)
    if type_name(memory, o, int_type) != b"int":
        raise Malformed(SOURCE, "sys.hexversion is no int")
    told = read_int(memory, replace(python, int_type=int_type), number)
    if version == _MAYBE_3_9 and told >> 16 == 0x0309:
        o = tabled(9)
    elif told >> 16 != version >> 16:
        raise Malformed(SOURCE, f"sys.hexversion is {told:#x}, not {version:#x}")
    module = dicts.values(modules, frozenset({b"sys"})).get(b"sys", (0, 0))[1]
    module_type = memory.word(module + o.ob_type)
    if (
        type_name(memory, o, module_type) != b"module"
        or memory.word(module + o.object_size) != sysdict
    ):
        raise Malformed(SOURCE, "the module sys is another")
    return replace(python, offsets=o, hexversion=told, int_type=int_type, module_type=module_type)


def _with_tids(memory: Snapshot, python: Python, images: list[Image], ns_pid: int) -> Python:
    """Return the same, and how to tell a thread's TID by its ident.

    glibc says for debuggers where it is (``_thread_db_pthread_tid``, nptl_db/structs.def: bits, number,
    offset). musl does not, but a thread's struct begins with a pointer to itself, and the main thread's TID
    is known.
    """
    for image in images:
        if image.file.startswith(("libc.so", "libc-", "libpthread")) or not image.name:
            told = find_symbol(memory, image, b"_thread_db_pthread_tid")
            if told is not None:
                data = memory.read(told, 12)
                bits, count, offset = (half(data, at) for at in (0, 4, 8))
                if (bits, count) == (32, 1) and 0 < offset < PAGE:
                    return replace(python, tid_offset=offset)
    if platform.machine() == "x86_64":
        for interpreter in interpreters(memory, python):
            for ident in thread_states(memory, python, interpreter):
                try:
                    data = memory.read(ident, _MUSL_TID + 4)
                except ReadError:
                    continue
                if word(data, 0) == ident and half(data, _MUSL_TID) == ns_pid:
                    return replace(python, tid_offset=_MUSL_TID, points_to_itself=True)
    if not python.offsets.native:
        raise Unsupported(
            SOURCE, "neither its C library nor its Python tells the TIDs of its threads"
        )
    return python
