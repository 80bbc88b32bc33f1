"""Finds where a process has what asyncio's loops consist of: code, types and the dict of current tasks.

The way goes from ``sys.modules`` by names, so what is found is what asyncio itself uses.
"""

from __future__ import annotations

from dataclasses import dataclass

from threadwatch.errors import ReadError
from threadwatch.names.memory.interpreter import FIRST_LOOK
from threadwatch.names.memory.snapshot import Memory, Snapshot
from threadwatch.names.memory.walk import Dicts, Python
from threadwatch.tasks.imports import Imports
from threadwatch.tasks.layout import Layout, malformed
from threadwatch.tasks.objects import Objects

_BASE_EVENTS, _EVENTS, _TASKS = b"asyncio.base_events", b"asyncio.events", b"asyncio.tasks"
MODULES = frozenset({_BASE_EVENTS, _EVENTS, _TASKS})
"""Those in which asyncio has its loops."""

_FIRST_EAGER = 12
_TASK_SET: tuple[bytes, ...] = (b"_all_tasks",)
_TASK_SETS: tuple[bytes, ...] = (b"_scheduled_tasks", b"_eager_tasks")
_TRIES = 3
_LAST_WITH_DICT = 13
"""Up to this minor version, a dict has the current task of each loop."""


@dataclass(frozen=True, slots=True)
class Places:
    """Addresses of what asyncio's loops consist of, in the main interpreter."""

    interpreter: int
    loop_type: int
    """``asyncio.base_events.BaseEventLoop``"""
    run_once: int
    """The code of its method ``_run_once``: one iteration."""
    run_forever: int
    """The code of its method ``run_forever``, which calls that."""
    handle_type: int
    """``asyncio.events.Handle``"""
    handle_run: int
    """The code of its method ``_run``."""
    task_type: int
    """``_asyncio.Task``"""
    standard_files: str
    """The directory of Python's own library, with a slash at the end."""
    current_tasks: int
    """The dict ``asyncio.tasks._current_tasks``; 0: there is none (3.14 and later)."""
    task_sets: tuple[int, ...]
    """The sets that have all tasks, up to 3.13."""
    # The locals of _run_once in its frame, in words from its beginning
    at_self: int
    at_handle: int
    at_end_time: int
    at_i: int


class _NotYet(Exception):  # no error: the module is just being imported
    """A module or class has no such name yet."""


class PlacesFinder:
    """Finds the places of one process, as soon as it has imported asyncio."""

    def __init__(self, python: Python, layout: Layout, objects: Objects, imports: Imports) -> None:
        """``imports``: the modules :data:`MODULES` among others, asked before each :meth:`find`."""
        self._python = python
        self._layout = layout
        self._objects = objects
        self._imports = imports
        self._modules: dict[bytes, int] = {}
        self._found: Places | None = None

    @property
    def found(self) -> Places | None:
        """Return what the last :meth:`find` has found."""
        return self._found

    def find(self, memory: Memory) -> Places | None:
        """Return the places; None: asyncio has not been imported yet.

        :raises Gone: the program has ended.
        :raises ReadError: it is not what it seems.
        """
        imports = self._imports
        modules = {name: imports.found[name] for name in MODULES & imports.found.keys()}
        if self._found is not None and modules == self._modules:
            return self._found
        self._modules, self._found = modules, None
        if len(modules) < len(MODULES):
            return None
        for tries_left in reversed(range(_TRIES)):
            try:
                snapshot = Snapshot(memory, FIRST_LOOK)
                self._found = self._follow(memory, snapshot, imports.interpreter, modules)
            except _NotYet:
                return None
            except ReadError:  # a module's dict grows just now
                if not tries_left:
                    raise
            else:
                break
        return self._found

    def _follow(
        self, memory: Memory, snapshot: Snapshot, interpreter: int, modules: dict[bytes, int]
    ) -> Places:
        o, objects = self._layout, self._objects
        loop = self._of_module(snapshot, modules[_BASE_EVENTS], b"BaseEventLoop")
        handle = self._of_module(snapshot, modules[_EVENTS], b"Handle")
        task = self._of_module(snapshot, modules[_TASKS], b"Task")
        if objects.type(memory, task).name != "Task":
            raise malformed("asyncio.tasks.Task is another class")
        current, sets = 0, []
        if self._python.offsets.minor <= _LAST_WITH_DICT:
            current = self._of_module(snapshot, modules[_TASKS], b"_current_tasks")
            if objects.type_at(memory, current) != self._python.dict_type:
                raise malformed("asyncio.tasks._current_tasks is no dict")
            in_sets = _TASK_SETS if self._python.offsets.minor >= _FIRST_EAGER else _TASK_SET
            sets = [self._of_module(snapshot, modules[_TASKS], name) for name in in_sets]
        run_once = self._method(memory, snapshot, loop, "_run_once", "base_events.py")
        names = objects.local_names(memory, run_once)
        try:
            at_self, at_handle, at_end_time, at_i = (
                o.frame_locals // 8 + names.index(name)
                for name in ("self", "handle", "end_time", "i")
            )
        except ValueError:
            raise malformed("asyncio's _run_once is another function") from None
        return Places(
            interpreter=interpreter,
            loop_type=loop,
            run_once=run_once,
            run_forever=self._method(memory, snapshot, loop, "run_forever", "base_events.py"),
            handle_type=handle,
            handle_run=self._method(memory, snapshot, handle, "_run", "events.py"),
            task_type=task,
            standard_files=objects.code(memory, run_once).file.removesuffix(
                "asyncio/base_events.py"
            ),
            current_tasks=current,
            task_sets=tuple(sets),
            at_self=at_self,
            at_handle=at_handle,
            at_end_time=at_end_time,
            at_i=at_i,
        )

    def _of_module(self, snapshot: Snapshot, module: int, name: bytes) -> int:
        """Return what a module has by that name."""
        o = self._python.offsets
        if snapshot.word(module + o.ob_type) != self._python.module_type:
            raise malformed("a module of asyncio is none")
        return self._in_dict(snapshot, snapshot.word(module + o.object_size), name)

    def _in_dict(self, snapshot: Snapshot, a_dict: int, name: bytes) -> int:
        found = Dicts(snapshot, self._python).values(a_dict, frozenset({name})).get(name)
        if found is None:
            raise _NotYet
        return found[1]

    def _method(self, memory: Memory, snapshot: Snapshot, a_type: int, name: str, file: str) -> int:
        """Return the code of a method, which has to be that of asyncio's own file."""
        objects = self._objects
        function = self._in_dict(
            snapshot, snapshot.word(a_type + self._layout.type_dict), name.encode()
        )
        if not objects.is_builtin(memory, objects.type_at(memory, function), "function"):
            raise malformed(f"{name} is no function")
        address = snapshot.word(function + self._layout.function_code)
        code = objects.code(memory, address)
        if code.name.rpartition(".")[2] != name or not code.file.endswith(f"asyncio/{file}"):
            raise malformed(f"{name} is {code.name} of {code.file}")
        return address
