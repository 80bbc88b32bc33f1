"""The Python in a process: where its runtime is, how it is laid out, and the proof that this is so.

Once for each program. What is taken for offsets is believed only if what they lead to is what Python says of
itself: ``sys.modules`` is the interpreter's own, ``sys.__dict__`` too, and ``sys.hexversion`` is the version
that the offsets are of.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace

from threadwatch.errors import Malformed, ReadError, Unsupported
from threadwatch.names.memory.images import Image, find_images, find_symbol, writable
from threadwatch.names.memory.objects import (
    KEYS_HEAD,
    Keys,
    int_digits,
    parse_digits,
    parse_keys,
)
from threadwatch.names.memory.offsets import (
    COOKIE,
    HEAD_SIZE,
    Offsets,
    parse_described,
    parse_head,
    tabled,
)
from threadwatch.names.memory.snapshot import PAGE, SOURCE, Snapshot, half, word

FIRST_LOOK = 8192
"""Pages that may be read to find a Python: as many as a program with thousands of modules needs."""
MOST_INTERPRETERS = 256
MOST_STATES = 1 << 16

_MOST_SEARCHED = 8 << 20
"""Bytes that are searched for a runtime that no symbol tells of: a static program has some 2 MiB."""
_MAYBE_3_9 = 0x030A0000
"""For 3.9 and 3.10, which export no version and are alike in all that leads to it."""
_MUSL_TID = 48
"""Where musl keeps a thread's TID on x86-64 (src/internal/pthread_impl.h), from its ident on."""
_SHORT = 32


@dataclass(frozen=True, slots=True)
class Python:
    """A Python that has been found, and proven to be what it seems."""

    offsets: Offsets
    runtime: int
    hexversion: int
    dict_type: int
    str_type: int
    int_type: int
    module_type: int
    tid_offset: int
    """Where the C library has a thread's TID, from its ident (pthread_self(3)) on; 0 unknown."""
    points_to_itself: bool
    """What an ident points to begins with a pointer to itself."""


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


def interpreters(memory: Snapshot, python: Python) -> list[int]:
    """Return the addresses of the interpreters' states, the newest first, the main one last."""
    found: list[int] = []
    at = memory.word(python.runtime + python.offsets.interpreters)
    while at:
        if at % 8 or at in found or len(found) >= MOST_INTERPRETERS:
            raise Malformed(SOURCE, "the list of interpreters has no end")
        found.append(at)
        at = memory.word(at + python.offsets.next_interpreter)
    return found


def thread_states(memory: Snapshot, python: Python, interpreter: int) -> dict[int, tuple[int, int]]:
    """Return by ident: a thread's TID, 0 where it is not told, and the address of its state."""
    o = python.offsets
    span = max(o.ident, o.native, o.state_interpreter, o.next_state) + 8
    found: dict[int, tuple[int, int]] = {}
    at = memory.word(interpreter + o.states)
    for _ in range(MOST_STATES):
        if not at:
            return found
        data = memory.read(at, span)
        if word(data, o.state_interpreter) != interpreter:
            raise Malformed(SOURCE, "a thread state is of another interpreter")
        native = word(data, o.native) if o.native else 0
        found[word(data, o.ident)] = native, at
        at = word(data, o.next_state)
    raise Malformed(SOURCE, "the list of thread states has no end")


class Dicts:
    """Dicts and what is in them, in one snapshot."""

    def __init__(self, memory: Snapshot, python: Python) -> None:
        self._memory = memory
        self._python = python

    def keys(self, address: int) -> Keys:
        """Return how the keys at an address are laid out."""
        return parse_keys(self._python.offsets, self._memory.read(address, KEYS_HEAD))

    def keys_of(self, a_dict: int) -> int:
        """Return where a dict's keys are, which is no object's own: of those, the values are elsewhere."""
        o = self._python.offsets
        if self._memory.word(a_dict + o.ob_type) != self._python.dict_type:
            raise Malformed(SOURCE, "what should be a dict is none")
        if self._memory.word(a_dict + o.ma_values):
            raise Malformed(SOURCE, "a module's dict is an object's")
        return self._memory.word(a_dict + o.ma_keys)

    def find(self, keys: int, names: frozenset[bytes]) -> dict[bytes, tuple[int, int]]:
        """Return, of those names among the keys, the number of the entry and the address of its key."""
        layout = self.keys(keys)
        data = self._memory.read(keys + layout.entries, layout.count * layout.size)
        found: dict[bytes, tuple[int, int]] = {}
        for number, (key, _) in enumerate(layout.pairs(data)):
            if key and (text := self.short(key)) is not None and text in names:
                found[text] = number, key
                if len(found) == len(names):
                    break
        return found

    def values(self, a_dict: int, names: frozenset[bytes]) -> dict[bytes, tuple[int, int]]:
        """Return, of those names in a module's dict, the place of the value's address, and that address."""
        keys = self.keys_of(a_dict)
        layout = self.keys(keys)
        found = {}
        for text, (number, _) in self.find(keys, names).items():
            place = keys + layout.key(number) + 8
            value = self._memory.word(place)
            if value:
                found[text] = place, value
        return found

    def short(self, address: int) -> bytes | None:
        """Return the characters of a str that is short, as those of attributes and modules are; else None."""
        python, read = self._python, self._memory.read
        o = python.offsets
        head = read(address + o.ob_type, o.str_length + 8 - o.ob_type)
        length = word(head, o.str_length - o.ob_type)
        if length > _SHORT or (python.str_type and word(head, 0) != python.str_type):
            return None
        return read(address + o.ascii_size, length)


def read_int(memory: Snapshot, python: Python, address: int) -> int:
    """Return the value of an int that is not negative, and small enough for an address."""
    o = python.offsets
    head = memory.read(address + o.ob_type, o.int_digits - o.ob_type)
    if python.int_type and word(head, 0) != python.int_type:
        raise Malformed(SOURCE, "what should be an int is none")
    return parse_digits(memory.read(address + o.int_digits, 4 * int_digits(o, head)))


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
        SOURCE, "no symbol tells where its Python is, as in programs that are linked so"
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
    if _type_name(memory, o, dict_type) != b"dict":
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
    if _type_name(memory, o, str_type) != b"str":
        raise Malformed(SOURCE, "the keys of sys.__dict__ are no str")
    python = replace(python, str_type=str_type)
    dicts = Dicts(memory, python)
    own = dicts.values(sysdict, frozenset({b"modules", b"hexversion"}))
    if len(own) != 2 or own[b"modules"][1] != modules:
        raise Malformed(SOURCE, "sys.modules is another")
    number = own[b"hexversion"][1]
    int_type = memory.word(number + o.ob_type)
    if _type_name(memory, o, int_type) != b"int":
        raise Malformed(SOURCE, "sys.hexversion is no int")
    told = read_int(memory, replace(python, int_type=int_type), number)
    if version == _MAYBE_3_9 and told >> 16 == 0x0309:
        o = tabled(9)
    elif told >> 16 != version >> 16:
        raise Malformed(SOURCE, f"sys.hexversion is {told:#x}, not {version:#x}")
    module = dicts.values(modules, frozenset({b"sys"})).get(b"sys", (0, 0))[1]
    module_type = memory.word(module + o.ob_type)
    if (
        _type_name(memory, o, module_type) != b"module"
        or memory.word(module + o.object_size) != sysdict
    ):
        raise Malformed(SOURCE, "the module sys is another")
    return replace(python, offsets=o, hexversion=told, int_type=int_type, module_type=module_type)


def _type_name(memory: Snapshot, offsets: Offsets, a_type: int) -> bytes:
    return memory.string(memory.word(a_type + offsets.tp_name), _SHORT)


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
