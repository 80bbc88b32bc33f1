"""The hubs of gevent in one process: which threads have one, and which greenlet has each of them.

Looked for only if the module ``gevent.hub`` has been imported. A hub is a greenlet that runs the loop of its
thread. It is found while it runs: the thread has a frame of ``Hub.run`` then. From it, the way goes to the
struct in which greenlet has what runs in a thread.
"""

from __future__ import annotations

from threadwatch.errors import ReadError
from threadwatch.model.loops import Census, LoopSample
from threadwatch.names.memory.snapshot import Memory, Snapshot, word
from threadwatch.names.memory.walk import Dicts, thread_states
from threadwatch.tasks.finding import MOST_LOOPS, Innermost, tid_of
from threadwatch.tasks.gevent_look import GeventHub, GeventLooks, GeventPlaces
from threadwatch.tasks.imports import attribute
from threadwatch.tasks.kind import Asleep, Shared
from threadwatch.tasks.layout import TAGS, malformed
from threadwatch.tasks.objects import words
from threadwatch.tasks.owner import OF_GEVENT, Owners

GEVENT = b"gevent.hub"
"""The module that has its hubs."""
_MOST_PAGES = 4096
_PIMPL = 32
"""Where a greenlet has its struct of C++ (greenlet.h)."""
_SPAN = 50
"""Words of that struct that are looked through."""
_MOST_BASES = 16


class GeventLoops:
    """The hubs of gevent: see :class:`.LoopReader`."""

    def __init__(self, shared: Shared) -> None:
        """Begin with none."""
        self._shared = shared
        self._module = 0
        self._interpreter = 0
        self._places: GeventPlaces | None = None
        self._looks: GeventLooks | None = None
        self._hubs: dict[int, GeventHub] = {}
        """By the addresses of thread states."""
        self._without: dict[int, Innermost] = {}
        """By the same, where threads were that had none."""

    @property
    def tids(self) -> frozenset[int]:
        """Return the threads with a hub."""
        return frozenset(hub.tid for hub in self._hubs.values())

    def find(self, memory: Memory, _: int) -> None:
        """See which threads have a hub now."""
        imports = self._shared.imports
        module = imports.found.get(GEVENT, 0)
        if (module, imports.interpreter) != (self._module, self._interpreter):
            self._module, self._interpreter = module, imports.interpreter
            self._places, self._looks, self._hubs, self._without = None, None, {}, {}
        if not module:
            return
        snapshot = Snapshot(memory, _MOST_PAGES)
        if self._places is None or self._looks is None:
            self._places = self._find_places(memory, snapshot, module)
            if self._places is None:
                return
            self._looks = GeventLooks(self._shared, self._places, self._interpreter)
        states = thread_states(snapshot, self._shared.python, self._interpreter)
        hubs: dict[int, GeventHub] = {}
        without: dict[int, Innermost] = {}
        for ident, (native, state) in states.items():
            found = self._see(memory, self._places, state, ident, native)
            if isinstance(found, GeventHub):
                if len(hubs) < MOST_LOOPS:
                    hubs[state] = self._looks.follow(memory, found)
            elif found is not None:
                without[state] = found
        self._hubs, self._without = hubs, without

    def _find_places(self, memory: Memory, snapshot: Snapshot, module: int) -> GeventPlaces | None:
        """Return what that module has; None: it is just being imported. Raises Gone or ReadError."""
        shared = self._shared
        objects, layout = shared.objects, shared.layout
        hub = attribute(snapshot, shared.python, module, b"Hub")
        if hub is None or attribute(snapshot, shared.python, module, b"linkproxy") is None:
            return None
        found = Dicts(snapshot, shared.python).values(
            snapshot.word(hub + layout.type_dict), frozenset({b"run"})
        )
        if b"run" not in found:
            raise malformed("gevent's Hub has no method run")
        function = found[b"run"][1]
        if not objects.is_builtin(memory, objects.type_at(memory, function), "function"):
            raise malformed("the method run of gevent's Hub is no function")
        run = snapshot.word(function + layout.function_code)
        if not objects.code(memory, run).file.endswith("gevent/hub.py"):
            raise malformed("the method run of gevent's Hub is another's")
        names = objects.local_names(memory, run)
        if "self" not in names:
            raise malformed("the method run of gevent's Hub is another function")
        base = hub
        for _ in range(_MOST_BASES):
            if objects.type(memory, base).name == "greenlet":
                break
            base = objects.type(memory, base).base
        else:
            raise malformed("gevent's Hub is no greenlet")
        return GeventPlaces(
            hub_type=hub,
            greenlet_type=base,
            run=run,
            run_self=layout.frame_locals + 8 * names.index("self"),
            standard_files=shared.imports.standard_files(memory, objects),
        )

    def _see(
        self, memory: Memory, places: GeventPlaces, state: int, ident: int, native: int
    ) -> GeventHub | Innermost | None:
        """Return the hub of a thread; the innermost frame of one that has none; or None."""
        frames, known = self._shared.frames, self._hubs.get(state)
        if known is not None and known.ident != ident:
            known = None
        try:
            now = frames.state(memory, state, ident, self._interpreter)
            if not now.frame:
                return known
            innermost = now.frame, *frames.step(memory, now.frame)
            if known is None and self._without.get(state) == innermost:
                return innermost
            found = frames.walk(memory, now.frame, places.run).found
            if found is None:
                return known or innermost
            (hub,) = words(memory, found.address + places.run_self, 1)
            if known is not None and (known.address, known.frame) == (hub & ~TAGS, found.address):
                return known
            return self._hub(memory, places, (state, ident, native), hub & ~TAGS, found.address)
        except ReadError:
            return known

    def _hub(
        self,
        memory: Memory,
        places: GeventPlaces,
        thread: tuple[int, int, int],
        hub: int,
        frame: int,
    ) -> GeventHub | None:
        """Return a hub, with the struct that says what runs in its thread. Raises Gone or ReadError."""
        objects = self._shared.objects
        state, ident, native = thread
        if not objects.is_a(memory, objects.type_at(memory, hub), places.hub_type):
            raise malformed("what should be gevent's hub is none")
        owners = Owners(self._shared.python, self._interpreter, OF_GEVENT)
        owners.prove(memory, hub, ident)
        tid = tid_of(self._shared.python, memory, ident, native)
        if not tid:
            return None
        for main in self._pimpl(memory, hub):
            if main != hub and self._is_greenlet(memory, main, places):
                for address in self._pimpl(memory, main):
                    if self._names_both(memory, address, main, places):
                        return GeventHub(state, ident, tid, hub, frame, main, address)
        raise malformed("greenlet does not say what runs in a thread")

    @staticmethod
    def _pimpl(memory: Memory, greenlet: int) -> tuple[int, ...]:
        """Return the words of a greenlet's struct that may be addresses."""
        (at,) = words(memory, greenlet + _PIMPL, 1)
        return tuple(w for w in words(memory, at, _SPAN) if w > 1 << 16 and not w % 8)

    def _is_greenlet(self, memory: Memory, address: int, places: GeventPlaces) -> bool:
        try:
            kind = word(memory.read(address + self._shared.python.offsets.ob_type, 8), 0)
            return kind == places.greenlet_type
        except ReadError:
            return False

    def _names_both(self, memory: Memory, address: int, main: int, places: GeventPlaces) -> bool:
        """Return whether a struct begins with a thread's main greenlet and one that runs."""
        objects = self._shared.objects
        try:
            first, current = words(memory, address, 2)
            return first == main and objects.is_a(
                memory, objects.type_at(memory, current), places.greenlet_type
            )
        except ReadError:
            return False

    def sample(
        self, memory: Memory, now_ns: int, asleep: Asleep, *, functions: bool
    ) -> list[LoopSample]:
        """Return what has each hub's thread now."""
        samples = []
        if self._looks is not None:
            for state, hub in list(self._hubs.items()):
                sample = self._looks.look(memory, hub, now_ns, asleep(hub.tid), functions=functions)
                if sample is None:
                    del self._hubs[state]
                else:
                    samples.append(sample)
        return samples

    def skip(self, now_ns: int) -> None:
        """Note that what the last sample has found holds until now."""
        for hub in self._hubs.values():
            hub.beginning.skip(now_ns)

    def iterations(self, memory: Memory) -> dict[int, int]:
        """Return by TID the number of the iteration that each loop of libev is in."""
        looks = self._looks
        if looks is None:
            return {}
        found = {hub.tid: looks.iteration(memory, hub) for hub in self._hubs.values()}
        return {tid: number for tid, number in found.items() if number is not None}

    def census(self, _: Memory, __: int) -> list[Census]:
        """Return nothing: no registry has all greenlets."""
        return []
