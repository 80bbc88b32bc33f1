"""Finds the places of a script's path and of all that is checked before, by ``struct _Py_DebugOffsets``.

The struct is the first member of ``_PyRuntime`` (CPython, Include/internal/pycore_debug_offsets.h). Each of
its fields has 8 bytes. The fields move from one minor version to the next, so only known versions are taken.
:mod:`threadwatch.names.memory` finds a Python and proves that it is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from threadwatch.errors import Malformed
from threadwatch.names.memory.offsets import COOKIE

SIZES = {14: 760, 15: 888}
"""Bytes of the struct by minor version, for :func:`parse_offsets`. Those versions can be attached to."""

_SOURCE = "debug offsets"
_HEAD = Struct("<8sQ")
_RUNTIME = Struct("<3Q")  # size, finalizing, interpreters_head; at 24
_INTERPRETER = Struct("<5Q")  # size, id, next, threads_head, threads_main; at 48
_THREAD = Struct("<4Q")  # size, prev, next, interp; at 176
_NATIVE_ID_AT = {14: 224, 15: 248}
_DEBUGGER = Struct("<6Q")
_DEBUGGER_AT = {14: 712, 15: 840}
_CANDIDATE = 0xC0
"""PY_RELEASE_LEVEL_GAMMA, from which on a minor version keeps its structures."""
_MOST = 1 << 24
"""No structure is larger, in bytes."""
_LEAST_PATH, _MOST_PATH = 64, 4096


@dataclass(frozen=True, slots=True)
class Offsets:
    """The offsets of fields, in bytes from the beginning of their structure."""

    runtime_size: int
    finalizing: int
    """In ``_PyRuntime``: the thread state of the thread that ends the interpreter."""
    interpreters: int
    """In ``_PyRuntime``: the youngest interpreter."""
    interpreter_size: int
    interpreter_id: int
    next_interpreter: int
    threads: int
    """In an interpreter: the youngest thread state."""
    main_thread: int
    """In an interpreter: the main thread's state; it has none at the program's end."""
    enabled: int
    """In an interpreter: whether it runs scripts, an int."""
    thread_size: int
    previous: int
    """In a thread state, as those that follow."""
    next: int
    interpreter: int
    native_id: int
    breaker: int
    """The word of bits that make a thread look up from its bytecode."""
    pending: int
    """An int: 1 while a script is to be run."""
    path: int
    """The script's path."""
    path_size: int
    """The room for it, with the NUL behind it."""


def parse_offsets(data: bytes) -> Offsets:
    """Return the offsets by the whole struct of one of the versions in :data:`SIZES`.

    Pure and total. Each offset lies within its structure.

    :raises Malformed: the bytes are something else.
    """
    cookie, hexversion = _HEAD.unpack(data[: _HEAD.size].ljust(_HEAD.size, b"\0"))
    major, minor = hexversion >> 24, hexversion >> 16 & 0xFF
    if cookie != COOKIE or major != 3 or minor not in SIZES or hexversion & 0xF0 < _CANDIDATE:
        raise Malformed(_SOURCE, f"are of version {hexversion:#x}, whose structures are not known")
    if len(data) < SIZES[minor]:
        raise Malformed(_SOURCE, f"should have {SIZES[minor]} bytes, not {len(data)}")
    runtime_size, finalizing, interpreters = _RUNTIME.unpack_from(data, 24)
    interpreter_size, interpreter_id, following, threads, main = _INTERPRETER.unpack_from(data, 48)
    thread_size, previous, next_, interpreter = _THREAD.unpack_from(data, 176)
    (native_id,) = Struct("<Q").unpack_from(data, _NATIVE_ID_AT[minor])
    breaker, support, enabled, pending, path, path_size = _DEBUGGER.unpack_from(
        data, _DEBUGGER_AT[minor]
    )
    if not _LEAST_PATH <= path_size <= _MOST_PATH:
        raise Malformed(_SOURCE, f"have room for a path of {path_size} bytes")
    for size, ends in (
        (runtime_size, (finalizing + 8, interpreters + 8)),
        (
            interpreter_size,
            (interpreter_id + 8, following + 8, threads + 8, main + 8, enabled + 4),
        ),
        (
            thread_size,
            (
                *(previous + 8, next_ + 8, interpreter + 8, native_id + 8, breaker + 8),
                *(support + pending + 4, support + path + path_size),
            ),
        ),
    ):
        if size > _MOST or max(ends) > size:
            raise Malformed(_SOURCE, f"point behind a structure of {size} bytes")
    return Offsets(
        runtime_size=runtime_size,
        finalizing=finalizing,
        interpreters=interpreters,
        interpreter_size=interpreter_size,
        interpreter_id=interpreter_id,
        next_interpreter=following,
        threads=threads,
        main_thread=main,
        enabled=enabled,
        thread_size=thread_size,
        previous=previous,
        next=next_,
        interpreter=interpreter,
        native_id=native_id,
        breaker=breaker,
        pending=support + pending,
        path=support + path,
        path_size=path_size,
    )
