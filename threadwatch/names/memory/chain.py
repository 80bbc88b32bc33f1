"""The way from an entry of ``threading._active`` to a thread's name and TID, as it was followed once.

The entry's key is the thread's ident, its value the Thread. The Thread's attributes are in a dict, or in
places that its class numbers. ``_name`` is a str, ``_native_id`` the TID by Python's own account; the C
library has it, too, at a fixed distance from the ident. A name belongs to a TID if the two agree.

Nothing is stopped meanwhile, so any of this can be torn. A :class:`Chain` has every place that was read, and
what was there when it was followed: only if all that is the same again, and a while later once more, has it
been true (see :mod:`.following`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from struct import Struct

from threadwatch.errors import Malformed
from threadwatch.names.memory.attributes import Attributes, ValuePlace
from threadwatch.names.memory.objects import int_digits, parse_digits, parse_str
from threadwatch.names.memory.pages import Step
from threadwatch.names.memory.snapshot import SOURCE, Place, Snapshot, half, word
from threadwatch.names.memory.walk import Python, thread_states
from threadwatch.publisher.layout import encode_name

MOST_CHARACTERS = 256
"""Of a name that are read: more than are kept of it (:data:`threadwatch.publisher.layout.NAME_BYTES`)."""
Entry = tuple[int, int]
"""Of ``threading._active``: the addresses of an ident and of its Thread."""

_NAME, _NATIVE = b"_name", b"_native_id"
_OF_UWSGI = re.compile(r"uWSGIWorker\d+Core\d+")
_LAST_STALE = 13
"""Up to this minor version, a forked child's main thread can have its parent's ``_native_id``."""
_WORD = Struct("<Q")


@dataclass(frozen=True, slots=True)
class Chain:
    """A thread's name, and all that has to stay as it was read for that to be true."""

    entry: Entry
    tid: int
    """As the process sees it: in its own PID namespace."""
    ident: int
    name: str
    cut: bool
    """The name is longer than what is kept of it."""
    places: tuple[Place, ...]
    """In the order in which they have to be read again."""
    contents: tuple[bytes, ...]
    """What was there."""
    watched: tuple[Step, ...]
    """Those in which a new name shows, and what was there."""

    def is_same(self, contents: list[bytes]) -> bool:
        """Return whether what was read of :attr:`places` now is what was there."""
        return tuple(contents) == self.contents


class Threads:
    """Follows entries of one interpreter's ``threading._active``, in one snapshot."""

    def __init__(
        self, memory: Snapshot, python: Python, *, interpreter: int, main_thread: int, ns_pid: int
    ) -> None:
        """``main_thread``: where ``threading._main_thread`` is. ``ns_pid``: as in :func:`.find_python`."""
        self._memory = memory
        self._python = python
        self._interpreter = interpreter
        self._main_thread = main_thread
        self._ns_pid = ns_pid
        self._attributes = Attributes(memory, python, frozenset({_NAME, _NATIVE}))
        self._states: dict[int, tuple[int, int]] | None = None

    def follow(self, entry: Entry) -> Chain:
        """Return the chain from that entry.

        :raises Gone: the program has ended.
        :raises ReadError: it leads nowhere, or to no thread of the kernel's that can be told.
        """
        walk = _Walk(self._memory)
        key, thread = entry
        ident = self._int(walk, key)
        attributes = self._attributes.places(walk, thread)
        watched = len(walk.places)
        (name_at, name), (_, native) = (self._value(walk, attributes[a]) for a in (_NAME, _NATIVE))
        text, cut, text_places = self._text(name)
        own = self._int(walk, native)
        tid = self._tid(walk, ident, own, thread, text)
        # the pointer, the str, the pointer, right after each other: the str can only be another's if the
        # thread was given two new names meanwhile, within a microsecond or two
        pointer = (name_at, 8), _WORD.pack(name)
        for place, data in (pointer, *text_places, pointer):
            walk.add(place, data)
        return Chain(
            entry,
            tid,
            ident,
            text,
            cut,
            tuple(walk.places),
            tuple(walk.contents),
            (*walk.steps(2, watched), pointer, *text_places),
        )

    def _int(self, walk: _Walk, address: int) -> int:
        o = self._python.offsets
        size = o.int_digits - o.ob_type
        head = self._memory.read(address + o.ob_type, size)
        if word(head, 0) != self._python.int_type:
            raise Malformed(SOURCE, "what should be an int is none")
        digits = self._memory.read(address + o.int_digits, 4 * int_digits(o, head))
        walk.add((address + o.ob_type, size + len(digits)), head + digits)
        return parse_digits(digits)

    def _value(self, walk: _Walk, place: ValuePlace) -> tuple[int, int]:
        """Return where the address of an attribute's value is, and that address."""
        if walk.word(place.key_at) != place.key:
            raise Malformed(SOURCE, "a thread's attributes have changed")
        return place.at, walk.word(place.at)

    def _text(self, address: int) -> tuple[str, bool, list[Step]]:
        """Return a str, as much as is kept of it; whether it goes on; and where its bytes are."""
        o = self._python.offsets
        start = address + o.ob_type
        head = self._memory.read(start, o.str_state + 4 - o.ob_type)
        if word(head, 0) != self._python.str_type:
            raise Malformed(SOURCE, "a name is no str")
        text = parse_str(o, head)
        kept = min(text.length, MOST_CHARACTERS)
        data = self._memory.read(address + text.start, kept * text.kind)
        encoded, cut = encode_name(text.decode(data))
        # without the hash, which Python makes when it needs it
        places = [
            ((start, o.str_length + 8 - o.ob_type), head[: o.str_length + 8 - o.ob_type]),
            ((address + o.str_state, 4), head[-4:]),
            ((address + text.start, len(data)), data),
        ]
        name = encoded.decode("utf-8", "replace")
        return name, bool(cut) or kept < text.length, [part for part in places if part[1]]

    def _tid(self, walk: _Walk, ident: int, own: int, thread: int, name: str) -> int:
        """Return the TID of the thread with that ident, which has that name and calls itself ``own``."""
        is_main = thread == self._main_thread
        if is_main and own == self._ns_pid:
            return own  # whatever its ident is: gevent makes those of greenlets
        outside = self._tid_outside(walk, ident)
        stale = is_main and self._python.offsets.minor <= _LAST_STALE
        if outside == own or (stale and outside == self._ns_pid):
            return outside
        if outside and _OF_UWSGI.fullmatch(name):
            # uWSGI forks its workers without telling Python, so a worker still has the Threads of its
            # master's threads. A thread of the worker with the ident of one of them is taken for that by
            # Python, TID and all; but uWSGI gives it the worker's name, which the master has for none.
            return outside
        raise Malformed(SOURCE, f"a thread has TID {outside}, and calls itself {own}")

    def _tid_outside(self, walk: _Walk, ident: int) -> int:
        """Return the TID by the C library, or by the thread's state; 0: the ident is no thread's."""
        python = self._python
        if python.tid_offset:
            tid = half(walk.read(ident + python.tid_offset, 4), 0)
            if python.points_to_itself and walk.word(ident) != ident:
                return 0
            return tid
        if self._states is None:
            self._states = thread_states(self._memory, python, self._interpreter)
        native, state = self._states.get(ident, (0, 0))
        o = python.offsets
        if (
            not state
            or walk.word(state + o.ident) != ident
            or walk.word(state + o.native) != native
        ):
            return 0
        return native


class _Walk:
    """Reads, and notes where and what."""

    __slots__ = ("_memory", "contents", "places")

    def __init__(self, memory: Snapshot) -> None:
        self._memory = memory
        self.places: list[Place] = []
        self.contents: list[bytes] = []

    def add(self, place: Place, data: bytes) -> None:
        self.places.append(place)
        self.contents.append(data)

    def read(self, address: int, size: int) -> bytes:
        data = self._memory.read(address, size)
        self.add((address, size), data)
        return data

    def word(self, address: int) -> int:
        return word(self.read(address, 8), 0)

    def words(self, address: int, count: int) -> tuple[int, ...]:
        data = self.read(address, 8 * count)
        return tuple(word(data, 8 * number) for number in range(count))

    def steps(self, first: int, end: int) -> list[Step]:
        return list(zip(self.places[first:end], self.contents[first:end], strict=True))
