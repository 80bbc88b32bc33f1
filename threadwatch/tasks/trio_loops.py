"""The loops of trio in one process: which threads run one, what has each of them, and their tasks.

Looked for only if the module ``trio._core._run`` has been imported. A thread that runs a loop has a frame of
``trio.run``. In guest mode it has none, and the loop of the host is the one that is seen.
"""

from __future__ import annotations

from collections import Counter

from threadwatch.errors import ReadError
from threadwatch.model.loops import Census, LoopSample, TaskCount
from threadwatch.names.memory.snapshot import Memory, Snapshot
from threadwatch.names.memory.walk import thread_states
from threadwatch.tasks.finding import MOST_LOOPS, Innermost, tid_of
from threadwatch.tasks.kind import Asleep, Shared
from threadwatch.tasks.layout import malformed
from threadwatch.tasks.objects import words
from threadwatch.tasks.registry import keys_of_set
from threadwatch.tasks.trio_look import TrioLooks, TrioLoop
from threadwatch.tasks.trio_places import TrioPlaces, find_places

TRIO = b"trio._core._run"
"""The module that has its loops."""
_MOST_PAGES = 4096
_PAGES_OF_A_TASK = 4
"""How many pages may be read for each: itself, and its name."""


class TrioLoops:
    """The loops of trio: see :class:`.LoopReader`."""

    def __init__(self, shared: Shared) -> None:
        """Begin with none."""
        self._shared = shared
        self._module = 0
        self._interpreter = 0
        self._places: TrioPlaces | None = None
        self._looks: TrioLooks | None = None
        self._loops: dict[int, TrioLoop] = {}
        """By the addresses of thread states."""
        self._without: dict[int, Innermost] = {}
        """By the same, where threads were that ran no loop."""

    @property
    def tids(self) -> frozenset[int]:
        """Return the threads with a loop."""
        return frozenset(loop.tid for loop in self._loops.values())

    def find(self, memory: Memory, _: int) -> None:
        """See which threads run a loop now."""
        imports = self._shared.imports
        module = imports.found.get(TRIO, 0)
        if (module, imports.interpreter) != (self._module, self._interpreter):
            self._module, self._interpreter = module, imports.interpreter
            self._places, self._looks, self._loops, self._without = None, None, {}, {}
        if not module:
            return
        snapshot = Snapshot(memory, _MOST_PAGES)
        if self._places is None or self._looks is None:
            self._places = find_places(self._shared, memory, snapshot, module)
            if self._places is None:
                return
            self._looks = TrioLooks(self._shared, self._places, self._interpreter)
        states = thread_states(snapshot, self._shared.python, self._interpreter)
        loops: dict[int, TrioLoop] = {}
        without: dict[int, Innermost] = {}
        for ident, (native, state) in states.items():
            found = self._see(memory, self._looks, state, ident, native)
            if isinstance(found, TrioLoop):
                if len(loops) < MOST_LOOPS:
                    loops[state] = found
            elif found is not None:
                without[state] = found
        self._loops, self._without = self._of_one_thread(loops), without

    def _see(
        self, memory: Memory, looks: TrioLooks, state: int, ident: int, native: int
    ) -> TrioLoop | Innermost | None:
        """Return the loop of a thread; the innermost frame of one that runs none; or None."""
        frames, known = self._shared.frames, self._loops.get(state)
        if known is not None and known.ident != ident:
            known = None
        try:
            now = frames.state(memory, state, ident, self._interpreter)
            if not now.frame:
                return known
            innermost = now.frame, *frames.step(memory, now.frame)
            if known is None and self._without.get(state) == innermost:
                return innermost
            walk = frames.walk(memory, now.frame, self._run)
            if walk.found is None:
                # it went on too fast, or is in a greenlet: what it was stays
                return known or innermost
            if known is None or known.frame != walk.found.address:
                # one walk can lead into the frames of another thread; two of them hardly
                now = frames.state(memory, state, ident, self._interpreter)
                if frames.walk(memory, now.frame, self._run).found != walk.found:
                    return known
            tid = tid_of(self._shared.python, memory, ident, native)
            return looks.follow(memory, state, ident, tid, walk.found.address) if tid else None
        except ReadError:
            return known

    def _of_one_thread(self, loops: dict[int, TrioLoop]) -> dict[int, TrioLoop]:
        """Return the loops that one thread alone seems to run; or that it was seen to run before, and now.

        A walk can lead into the frames of another thread, and trio does not say which thread runs a loop.
        """
        threads = Counter(loop.frame for loop in loops.values())
        found = {}
        for state, loop in loops.items():
            known = self._loops.get(state)
            again = known is not None and known is not loop and known.frame == loop.frame
            if again or threads[loop.frame] == 1:
                found[state] = loop
        return found

    @property
    def _run(self) -> int:
        if self._places is None:
            raise malformed("trio has not been found")
        return self._places.run

    def sample(
        self, memory: Memory, now_ns: int, _: Asleep, *, functions: bool
    ) -> list[LoopSample]:
        """Return what has each loop now. The memory tells whether it waits for events."""
        samples = []
        if self._looks is not None:
            for state, loop in list(self._loops.items()):
                sample = self._looks.look(memory, loop, now_ns, functions=functions)
                if sample is None:
                    del self._loops[state]
                else:
                    samples.append(sample)
        return samples

    def skip(self, _: int) -> None:
        """Note nothing: no look depends on the one before."""

    def iterations(self, _: Memory) -> dict[int, int]:
        """Return nothing: the memory tells when an iteration began."""
        return {}

    def census(self, memory: Memory, most: int) -> list[Census]:
        """Return all tasks of each loop, by name."""
        return [self._count(memory, loop, most) for loop in self._loops.values()]

    def _count(self, memory: Memory, loop: TrioLoop, most: int) -> Census:
        shared, places, looks = self._shared, self._places, self._looks
        if places is None or looks is None:
            return Census(loop.tid, "trio", {})
        objects = shared.objects
        now = looks.frame.read(memory, loop.loop)
        if objects.type_at(memory, now.runner) != places.runner_type:
            raise malformed("what should be trio's runner is none")
        (tasks,) = words(memory, now.runner + places.runner_tasks, 1)
        if not objects.is_builtin(memory, objects.type_at(memory, tasks), "set"):
            raise malformed("trio's tasks are in no set")
        snapshot = Snapshot(memory, _MOST_PAGES + _PAGES_OF_A_TASK * most)
        counter: Counter[tuple[str, bool]] = Counter()
        for task in keys_of_set(memory, shared.layout, tasks, most):
            try:
                if objects.type_at(snapshot, task) != places.task_type:
                    continue
                name = objects.text(snapshot, snapshot.word(task + places.task_name))
                following = snapshot.word(task + places.task_next)
                waits = task != now.task and objects.is_builtin(
                    snapshot, objects.type_at(snapshot, following), "NoneType"
                )
            except ReadError:
                continue  # it has ended meanwhile
            counter[name, waits] += 1
        names = {name for name, _ in counter}
        return Census(
            loop.tid,
            "trio",
            {name: TaskCount(counter[name, False], counter[name, True]) for name in names},
        )
