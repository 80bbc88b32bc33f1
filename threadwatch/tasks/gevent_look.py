"""Looks at one hub of gevent at one moment, while the process runs on (docs/decisions/0045).

greenlet's own struct of the thread says which greenlet runs. If it is the hub, the loop has the thread: it
waits, runs a callback, whose frames lie inside that of ``Hub.run``, or does its own work, in C.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from itertools import dropwhile

from threadwatch.errors import ReadError
from threadwatch.model.loops import CALLBACK, LOOP, UNKNOWN, LoopSample
from threadwatch.names.memory.objects import KEYS_HEAD, parse_keys
from threadwatch.names.memory.snapshot import Memory, word
from threadwatch.tasks.beginning import Beginning
from threadwatch.tasks.functions import Functions
from threadwatch.tasks.kind import Shared
from threadwatch.tasks.layout import malformed
from threadwatch.tasks.libev import EvLoop, Libev, Turn
from threadwatch.tasks.objects import words

MAIN = "(main greenlet)"
"""What the thread's first greenlet is called."""
_TRIES = 3
_MOST_WRAPPED = 8
_MOST_ATTRIBUTES = 64
_LOOPS = ("/gevent/_ffi/", "/gevent/libuv/", "/gevent/libev/")
"""Where gevent has its loops that are written in Python."""
_DICT = 24
"""Where a greenlet has its dict (greenlet.h); the address of its struct of C++ follows."""
_DEFAULT = re.compile("Greenlet-[0-9]+")
"""What a greenlet is called that nothing else was said of."""
_RUN, _NAME = "_run", "name"
_FIRST_WITH_HEAD = 13
"""From this minor version on, the values of a dict that shares its keys begin with a word of their own."""


@dataclass(frozen=True, slots=True)
class GeventPlaces:
    """The parts of gevent's hubs."""

    hub_type: int
    greenlet_type: int
    run: int
    """The code of the method ``run`` of the hub."""
    run_self: int
    """The place of its local ``self`` in a frame, in bytes."""
    standard_files: str
    """The directory of Python's own library, with a slash at the end."""


@dataclass(slots=True)
class GeventHub:
    """A thread, and its hub."""

    state: int
    """The address of its thread state."""
    ident: int
    tid: int
    address: int
    """That of the hub."""
    frame: int
    """That of the frame of its method ``run``."""
    main: int
    """That of the thread's main greenlet."""
    running: int
    """That of greenlet's struct of the thread: the main greenlet, and the one that runs."""
    loop: EvLoop | None = None
    """None: its loop is none of libev, or one that is reached through cffi; or it has not been found yet."""
    wants_loop: bool = True
    """It is to be looked for."""
    beginning: Beginning = field(default_factory=Beginning)


class GeventLooks:
    """Looks at the hubs of one process."""

    def __init__(self, shared: Shared, places: GeventPlaces, interpreter: int) -> None:
        self._shared = shared
        self._places = places
        self._interpreter = interpreter
        self._functions = Functions(shared.objects, places.standard_files)
        self._libev = Libev(shared.python, shared.objects)

    def look(
        self, memory: Memory, hub: GeventHub, now_ns: int, slept: int | None, *, functions: bool
    ) -> LoopSample | None:
        """Return what has the thread of a hub now; None: the thread has ended. Raises Gone.

        ``slept``: as :data:`.Asleep` returns.
        """
        frames = self._shared.frames
        for _ in range(_TRIES):
            try:
                state = frames.state(memory, hub.state, hub.ident, self._interpreter)
            except ReadError:
                return None
            try:
                turn = self._turn(memory, hub)
                sample = self._holder(memory, hub, state.frame, slept, functions=functions)
            except ReadError:
                continue
            return self._with_age(memory, hub, sample, turn, now_ns)
        return LoopSample(hub.tid, "gevent", UNKNOWN, None, None, None)

    def follow(self, memory: Memory, hub: GeventHub) -> GeventHub:
        """Look for the loop of a hub, if that is still to be done; return the hub. Raises Gone."""
        if hub.wants_loop:
            with contextlib.suppress(ReadError):  # it is looked for again
                hub.loop = self._libev.find(memory, hub.address)
                hub.wants_loop = False
        return hub

    def iteration(self, memory: Memory, hub: GeventHub) -> int | None:
        """Return the number of a hub's iteration now; None: its loop does not count. Raises Gone."""
        return None if hub.loop is None else self._libev.iteration(memory, hub.loop)

    def _turn(self, memory: Memory, hub: GeventHub) -> Turn | None:
        """Return what the loop of a hub says now; None: it is none of libev. Raises Gone."""
        if hub.loop is None:
            return None
        try:
            return self._libev.turn(memory, hub.loop)
        except ReadError:
            hub.loop, hub.wants_loop = None, True
            return None

    def _with_age(
        self, memory: Memory, hub: GeventHub, sample: LoopSample, turn: Turn | None, now_ns: int
    ) -> LoopSample:
        """Return a sample with what its loop of libev tells. Raises Gone.

        ``turn``: what that has told before; the number of the iteration is of then.
        """
        if turn is None:
            return sample
        after = self._turn(memory, hub)
        if hub.loop is None or after is None:
            return sample
        sample = sample._replace(
            iteration=turn.iteration, ready=self._libev.ready(memory, hub.loop)
        )
        lasted = after.iteration == turn.iteration
        age_ns = hub.beginning.age_ns(sample, after.time_ns, now_ns, lasted=lasted)
        return sample._replace(age_ns=age_ns)

    def _holder(
        self, memory: Memory, hub: GeventHub, innermost: int, slept: int | None, *, functions: bool
    ) -> LoopSample:
        """Return a sample with what has the thread. Raises Gone or ReadError."""
        greenlet = self._current(memory, hub)
        if greenlet == hub.address:
            return self._with_hub(memory, hub, innermost, slept, functions=functions)
        name = MAIN if greenlet == hub.main else self._name(memory, greenlet)
        function = self._function(memory, hub, greenlet) if functions else None
        return LoopSample(hub.tid, "gevent", name, function, None, None)

    def _current(self, memory: Memory, hub: GeventHub) -> int:
        """Return the address of the greenlet that runs. Raises Gone or ReadError."""
        main, current = words(memory, hub.running, 2)
        if main != hub.main:
            raise malformed("what runs in a thread is said elsewhere")
        return current

    def _with_hub(
        self, memory: Memory, hub: GeventHub, innermost: int, slept: int | None, *, functions: bool
    ) -> LoopSample:
        """Return what the loop does. Raises Gone or ReadError."""
        shared = self._shared
        walk = shared.frames.walk(memory, innermost, self._places.run)
        if walk.found is None or self._current(memory, hub) != hub.address:
            raise malformed("another greenlet runs by now")
        inside = [frame for frame in reversed(walk.frames) if self._has_code(memory, frame.code)]
        called = list(dropwhile(lambda frame: self._is_of_loop(memory, frame.code), inside))
        if called:
            name = CALLBACK + shared.objects.code(memory, called[0].code).name
            function = self._functions.outermost(memory, called) if functions else None
            return LoopSample(hub.tid, "gevent", name, function, None, None)
        if len(inside) > 1:  # its method ``run`` waits; what that calls does not
            return LoopSample(hub.tid, "gevent", LOOP, None, None, None)
        if slept is not None:  # nothing but its wait for events sleeps there
            return LoopSample(hub.tid, "gevent", None, None, None, None)
        return LoopSample(hub.tid, "gevent", LOOP, None, None, None, woken=True)

    def _has_code(self, memory: Memory, code: int) -> bool:
        """Return whether a frame is one of Python code, and not the interpreter's own. Raises Gone."""
        try:
            return not self._shared.objects.code(memory, code).file.startswith("<shim")
        except ReadError:
            return False

    def _is_of_loop(self, memory: Memory, code: int) -> bool:
        """Return whether code is of one of gevent's loops that are written in Python, and call C by cffi."""
        file = self._shared.objects.code(memory, code).file
        return any(directory in file for directory in _LOOPS)

    def _name(self, memory: Memory, greenlet: int) -> str:
        """Return what a greenlet is called: its own name, or that of the function that it runs.

        ``(unknown)``: a greenlet that says neither. Raises Gone or ReadError.
        """
        objects = self._shared.objects
        before = words(memory, greenlet, 5)[1:]
        if not objects.is_a(memory, before[0], self._places.greenlet_type):
            raise malformed("what should be a greenlet is none")
        found = self._attributes(memory, before[_DICT // 8 - 1])
        text = self._explicit(memory, found[_NAME]) if _NAME in found else None
        if text is None:
            text = self._callable(memory, found[_RUN]) if _RUN in found else UNKNOWN
        if words(memory, greenlet, 5)[1:] != before:
            raise malformed("a greenlet has ended")
        return text

    def _explicit(self, memory: Memory, address: int) -> str | None:
        objects = self._shared.objects
        if objects.type_at(memory, address) != self._shared.python.str_type:
            return None
        text = objects.text(memory, address)
        return None if not text or _DEFAULT.fullmatch(text) else text

    def _attributes(self, memory: Memory, a_dict: int) -> dict[str, int]:
        """Return the addresses of a greenlet's own name and of what it runs, as far as its dict has them."""
        if not a_dict:
            return {}
        shared = self._shared
        o, objects = shared.python.offsets, shared.objects
        if objects.type_at(memory, a_dict) != shared.python.dict_type:
            raise malformed("the attributes of a greenlet are in no dict")
        keys = word(memory.read(a_dict + o.ma_keys, 8), 0)
        values = word(memory.read(a_dict + o.ma_values, 8), 0)
        layout = parse_keys(o, memory.read(keys, KEYS_HEAD))
        if layout.count > _MOST_ATTRIBUTES:
            raise malformed(f"a greenlet has {layout.count} attributes")
        data = memory.read(keys + layout.entries, layout.count * layout.size)
        if values and o.minor >= _FIRST_WITH_HEAD:
            values += 8
        found: dict[str, int] = {}
        for number, (key, value) in enumerate(layout.pairs(data)):
            if key and (text := objects.shared_text(memory, key)) in (_RUN, _NAME):
                at = words(memory, values + 8 * number, 1)[0] if values else value
                if at:
                    found[text] = at
        return found

    def _callable(self, memory: Memory, address: int) -> str:
        """Return the qualified name of what a greenlet runs. Raises Gone or ReadError."""
        o, objects = self._shared.layout, self._shared.objects
        for _ in range(_MOST_WRAPPED):
            head = words(memory, address, 5)
            kind = objects.type(memory, head[self._shared.python.offsets.ob_type // 8])
            if kind.name == "partial":
                address = head[o.partial_function // 8]
            elif kind.builtin and kind.name == "method":
                address = head[o.method_function // 8]
            elif kind.builtin and kind.name == "function":
                (name,) = words(memory, address + o.function_qualname, 1)
                return objects.shared_text(memory, name) or UNKNOWN
            else:
                return kind.name
        raise malformed("what a greenlet runs is wrapped too often")

    def _function(self, memory: Memory, hub: GeventHub, greenlet: int) -> str | None:
        """Return the outermost function of the application in a greenlet; None: not known.

        The frames of a thread end where the greenlet begins that runs: two walks have to end there.
        """
        frames = self._shared.frames
        for _ in range(_TRIES):
            try:
                first, walk = (
                    frames.walk(
                        memory,
                        frames.state(memory, hub.state, hub.ident, self._interpreter).frame,
                        self._places.run,
                    )
                    for _ in range(2)
                )
                found = self._functions.outermost(memory, reversed(walk.frames))
                if self._current(memory, hub) != greenlet:
                    return None
            except ReadError:
                continue
            if walk.found is None and first.outermost == walk.outermost:
                return found
        return None
