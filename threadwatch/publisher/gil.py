"""Finds this process's GIL in memory, so that a daemon can see which thread holds it and which wait.

CPython does not tell its address, and its structures differ from release to release. So this module
searches, and accepts as the GIL only memory that looks like it in every respect:

* ``struct _gil_runtime_state`` begins, in CPython 3.9 to 3.15, with the switch interval, the thread
state of the last holder, and whether it is locked. We know the interval. The last holder is a thread
of ours, and its thread state contains its ident, and from 3.11 on its TID right behind the ident. As
a rule it is this very thread, which held the GIL until it asked the kernel. If other threads want the
GIL too, it can be any of them that :mod:`threading` knows.
* The search starts at an object. The garbage collector's header of the youngest object points to
the head of the collector's list, which is inside the state of the interpreter. That state contains
the GIL itself (of the main interpreter or of another one with its own, 3.12 and later), or else a
pointer to the GIL or to ``_PyRuntime``, which contains the GIL.
* A free-threaded build has no such list; if it runs with the GIL, ``_PyRuntime`` is found by name.
The same is done where other threads keep making younger objects.

The kernel does all the reading, through ``/proc/thread-self/mem``: for an unmapped address it
returns an error. So a wrong guess costs a system call, and can neither crash the process nor change
anything in it. If the file cannot be opened, or nothing fits, no GIL is published.

Runs inside other people's processes: standard library only, CPython 3.9 and later.
"""

import os
import sys
from _struct import Struct  # `struct` costs 0.1 ms to import
from itertools import islice

from threadwatch import is_ours

TYPE_CHECKING = False  # importing `typing` for its own would cost the target 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Read = Callable[[int, int], bytes]
    TidOf = Callable[[int], int]
    Found = tuple[int, int, int, int]

NOT_FOUND = (0, 0, 0, 0)

_TRIES_UNSEEN = 4
_TRIES = 16
"""The most looks at a GIL whose last holder is a thread that :mod:`threading` does not know."""
_PAGE = 4096
_STATE_BEFORE, _STATE_SIZE = 3, 5 * _PAGE
"""The part of an interpreter's state that is read: from three pages before that of the collector's list."""
_LOWEST = 1 << 16
"""Nothing is mapped below this address: a smaller number is no pointer."""
_IMAGE = 1 << 26
"""No interpreter's code and static data are larger."""
_ALIKE = 50
"""The most numbers equal to the interval that are examined: at 1 µs there can be many."""
_CLOSE = 1024
"""The pointer is within this distance of the list head; from 3.13 on it is at the very start of the
state instead."""
_POINTERS = 64
"""The most pointers into static data that are followed: the right one is among the first 33 at most."""
_GC_HEAD_SIZE = 16
_GIL_HEAD_SIZE = 24
_GIL_WITHIN = _GIL_HEAD_SIZE if sys.version_info >= (3, 12) else 1024
"""Bytes that are read at such a pointer: the GIL, or the part of ``_PyRuntime`` up to it (offset 352)."""
_RUNTIME_SIZE = 1 << 19
_THREAD_STATE_SIZE = 512
"""A thread state is larger, but the ids that we need are in its first 200 bytes."""
_number = Struct("=Q")
_holder_and_locked = Struct("=Qi").unpack_from


def _nobody(_ident: int) -> int:
    return 0


def find(ident: int, native_id: int, tid_of: "TidOf" = _nobody) -> "Found":
    """Find the GIL of the calling thread, whose ident and TID these are.

    ``tid_of`` returns the TID of another thread of this interpreter by its ident, or 0.

    Return its address, its size, and the offsets of ident and TID in a thread state: the four
    values that a table has of it (:func:`threadwatch.publisher.layout.pack_static`). All are 0 if
    there is no GIL, or if it was not found; that of the TID also if a thread state has none, before
    CPython 3.11.
    """
    try:
        if sys.implementation.name != "cpython" or sys.maxsize < 1 << 32:
            return NOT_FOUND
        if not getattr(sys, "_is_gil_enabled", _always)() or not _interval():
            return NOT_FOUND
        descriptor = os.open("/proc/thread-self/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _search(descriptor, ident, native_id, tid_of)
        finally:
            os.close(descriptor)
    except Exception as error:  # a fault of ours must not reach the application
        if not is_ours(error):
            raise
        return NOT_FOUND


def _always() -> bool:
    return True


def _interval() -> int:
    """Return the switch interval in microseconds, as the GIL has it."""
    return round(sys.getswitchinterval() * 1_000_000)


def _search(memory: int, ident: int, native_id: int, tid_of: "TidOf") -> "Found":
    def read(address: int, size: int) -> bytes:
        try:
            return os.pread(memory, size, address)
        except (OSError, OverflowError) as error:  # nothing is mapped there
            if not is_ours(error):
                raise
            return b""

    head, is_there = 0, False
    free_threaded = "t" in sys.abiflags  # then objects have no such header
    # While the kernel reads, this thread does not hold the GIL, and another may take it, or make
    # objects.
    for tries in range(_TRIES):
        if not is_there:
            if tries == _TRIES_UNSEEN:
                break
            head = 0
            if tries != 1 and not free_threaded:
                # In one expression: a trace function, which runs between lines, may make younger
                # objects. The lowest bits of `_gc_next` are flags.
                youngest = os.pread(memory, 8, id(_new := [None]) - _GC_HEAD_SIZE)
                head = _number.unpack(youngest)[0] & ~7
        is_there = False
        found = _by_list(read, head) if head else _by_name(read, free_threaded=free_threaded)
        for address, holder in found:
            state = memoryview(read(holder, _THREAD_STATE_SIZE)).cast("Q").tolist()
            is_there = is_there or bool(state)
            offsets = _offsets(state, ident, native_id) or _offsets_of_other(state, tid_of)
            if offsets is not None:
                return address, _size(), *offsets
    return NOT_FOUND


def _offsets(state: "list[int]", ident: int, tid: int) -> "tuple[int, int] | None":
    """Return the offsets of ident and TID in a thread's state, or None if it is another thread's."""
    if state.count(ident) != 1 or state[-1] == ident:
        return None
    at = state.index(ident)
    # since CPython 3.11 a thread state has the TID, right behind the ident
    has_native_id = sys.version_info >= (3, 11) and tid == state[at + 1]
    return 8 * at, 8 * (at + 1) if has_native_id else 0


def _offsets_of_other(state: "list[int]", tid_of: "TidOf") -> "tuple[int, int] | None":
    """Return the same offsets in the state of any thread that ``tid_of`` knows."""
    known = {number: tid_of(number) for number in state}
    idents = [number for number, tid in known.items() if tid]
    if len(idents) != 1:
        return None
    offsets = _offsets(state, idents[0], known[idents[0]])
    # Unlike our own, another thread's state counts only with its TID.
    if offsets is not None and sys.version_info >= (3, 11) and not offsets[1]:
        return None
    return offsets


def _size() -> int:
    # Four words, and a condition variable and a mutex of the C library, two of each.
    return 224 if os.uname().machine == "aarch64" else 208


def _by_list(read: "Read", head: int) -> "Iterator[tuple[int, int]]":
    """Yield what looks like our GIL: its address, and the thread state of its last holder.

    ``head``: the head of the collector's list, in the state of the interpreter.
    """
    start, data = 0, b""
    for pages in range(_STATE_BEFORE, -1, -1):
        start = (head // _PAGE - pages) * _PAGE
        data = read(start, _STATE_SIZE)
        if data:
            break
    if sys.version_info >= (3, 12):
        yield from _in_state(start, data)
    inside = range(start, start + len(data))
    followed: set[int] = set()
    for pointer in _to_static_data(data, head - start):
        if pointer not in inside and pointer not in followed:
            followed.add(pointer)
            if len(followed) > _POINTERS:
                return
            yield from _alike(pointer, read(pointer, _GIL_WITHIN))


def _by_name(read: "Read", *, free_threaded: bool) -> "Iterator[tuple[int, int]]":
    """Yield the same from ``_PyRuntime``, which contains the GIL of the main interpreter."""
    try:
        import _ctypes  # noqa: PLC0415 - takes 1 ms, and is seldom needed

        # None: all that is loaded already, as dlopen(3) says.
        start = _ctypes.dlsym(_ctypes.dlopen(None, 0), "_PyRuntime")  # type: ignore[arg-type]
    except (ImportError, OSError) as error:
        if not is_ours(error):
            raise
        return
    if sys.version_info >= (3, 12):
        # a free-threaded build has a word more before the interval
        yield from _in_state(start, read(start, _RUNTIME_SIZE), 8 if free_threaded else 0)
    else:
        yield from _alike(start, read(start, _GIL_WITHIN))


def _in_state(start: int, data: bytes, before: int = 0) -> "Iterator[tuple[int, int]]":
    """Yield the same from an interpreter's state, which contains the GIL and a pointer to it (3.12).

    ``before``: the size of the GIL's part before the interval.
    """
    for address, holder in islice(_alike(start, data), _ALIKE):
        if _number.pack(address - before).rstrip(b"\0") in data:  # `interp->ceval.gil`
            yield address, holder


def _to_static_data(data: bytes, middle: int) -> "Iterator[int]":
    """Yield possible pointers into the interpreter's image: those close to the middle first."""
    # Static objects are in that image; no program has its own copy of this one.
    image = id(type(None))
    lowest, highest = max(_LOWEST, image - _IMAGE), image + _IMAGE
    close = data[max(0, middle - _CLOSE) : middle + _CLOSE]
    # The memory before the list head is still the interpreter's state; what follows can be
    # anything.
    for part, step in ((close, 1), (data[:middle], -1)):
        for pointer in memoryview(part).cast("Q").tolist()[::step]:
            if lowest < pointer < highest and pointer % 8 == 0:
                yield pointer


def _alike(start: int, data: bytes) -> "Iterator[tuple[int, int]]":
    """Yield the places in data from ``start`` on that look like a GIL that is not held, or held once."""
    interval = _number.pack(_interval())
    searched = interval.rstrip(b"\0")  # many times faster without the zeros
    at = data.find(searched) if searched else -1  # empty: the interval has become 0 meanwhile
    while 0 <= at <= len(data) - _GIL_HEAD_SIZE:
        if at % 8 == 0 and data[at : at + 8] == interval:
            holder, locked = _holder_and_locked(data, at + 8)
            if holder and holder % 8 == 0 and locked in (0, 1):
                yield start + at, holder
        at = data.find(searched, at + 1)
