"""Tells what tasks and callbacks are called, from what is in memory of them."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from threadwatch.model.loops import CALLBACK, UNKNOWN
from threadwatch.tasks.layout import Layout, malformed
from threadwatch.tasks.objects import Objects, Readable, words
from threadwatch.tasks.places import Places

_COROUTINES = frozenset({"coroutine", "generator"})
_STEPS = frozenset({"TaskStepMethWrapper", "TaskWakeupMethWrapper"})
_WAKEUP = "task_wakeup"
_MOST_WRAPPED = 8
"""How many partials and methods may be around a function."""
_LONGEST = 64
_INT = Struct("<i")


class Task(NamedTuple):
    """A task, by its first bytes. The first four stay the same in its life."""

    type: int
    loop: int
    coroutine: int
    name: int
    waits_for: int
    """The address of a future; 0: none."""
    state: int
    """0 as long as it is not done."""


class Label(NamedTuple):
    """The name of what has the loop."""

    text: str
    task: int
    """The task's address; 0: it is none."""


class Labels:
    """The names of the tasks and callbacks of one process."""

    def __init__(self, places: Places, layout: Layout, objects: Objects, ob_type: int) -> None:
        self._places = places
        self._layout = layout
        self._objects = objects
        self._ob_type = ob_type
        o = layout
        waits_for = o.task_coroutine - 8
        self._task = Struct(
            f"<{ob_type}xQ{o.task_loop - ob_type - 8}xQ{waits_for - o.task_loop - 8}xQQQ"
        )
        self._coroutine = Struct(f"<{ob_type}xQ{o.coroutine_qualname - ob_type - 8}xQ")
        self.task_size = self._task.size
        """Bytes of a task that :meth:`parse` needs."""

    def of_task(self, memory: Readable, task: int, loop: int) -> str:
        """Return what a task of that loop is called.

        :raises Gone: the program has ended.
        :raises ReadError: it is no such task, or no more.
        """
        before = self.parse(memory.read(task, self.task_size))
        text = self.of_parsed(memory, before, loop)
        # As long as the task is the same, its coroutine and its name are not freed. So what was read of
        # them meanwhile is theirs.
        if self.parse(memory.read(task, self.task_size))[:4] != before[:4]:
            raise malformed("a task has ended")
        return text

    def coroutine_of(self, memory: Readable, task: int) -> int:
        """Return the address of a task's coroutine. Raises as :meth:`of_task`."""
        return self.parse(memory.read(task, self.task_size)).coroutine

    def parse(self, data: bytes) -> Task:
        """Return a task by its first bytes."""
        a_type, loop, waits_for, coroutine, name = self._task.unpack_from(data)
        (state,) = _INT.unpack_from(data, self._layout.task_state)
        return Task(a_type, loop, coroutine, name, waits_for, state)

    def of_parsed(self, memory: Readable, task: Task, loop: int) -> str:
        """Return what a task is called, which has to be read again afterwards. Raises as :meth:`of_task`."""
        if not self._objects.is_a(memory, task.type, self._places.task_type):
            raise malformed("what should be a task is none")
        if task.loop != loop:
            raise malformed("a task is of another loop")
        name = self._objects.explicit_name(memory, task.name)
        if name is not None:
            return name
        coroutine = memory.read(task.coroutine, self._coroutine.size)
        a_type, qualname = self._coroutine.unpack(coroutine)
        kind = self._objects.type(memory, a_type)
        if not kind.builtin or kind.name not in _COROUTINES:
            return UNKNOWN
        return self._objects.shared_text(memory, qualname) or UNKNOWN

    def of_handle(self, memory: Readable, handle: int, loop: int) -> Label:
        """Return what the callback of a handle is called, or the task that it takes a step of.

        :raises Gone: the program has ended.
        :raises ReadError: it is no handle, or no more.
        """
        o = self._layout
        head = words(memory, handle, o.handle_callback // 8 + 1)
        if not self._objects.is_a(memory, head[self._ob_type // 8], self._places.handle_type):
            raise malformed("what should be a handle is none")
        return self._of_callable(memory, head[o.handle_callback // 8], loop)

    def _of_callable(self, memory: Readable, address: int, loop: int) -> Label:
        o, objects = self._layout, self._objects
        for _ in range(_MOST_WRAPPED):
            head = words(memory, address, 5)
            kind = objects.type(memory, head[self._ob_type // 8])
            if kind.name in _STEPS:
                task = head[o.wrapper_task // 8]
                return Label(self.of_task(memory, task, loop), task)
            if kind.name == "partial":
                address = head[o.partial_function // 8]
            elif kind.builtin and kind.name == "method":
                address = head[o.method_function // 8]
            elif kind.builtin and kind.name == "function":
                name = words(memory, address + o.function_qualname, 1)[0]
                return Label(CALLBACK + objects.shared_text(memory, name), 0)
            elif kind.builtin and kind.name == "builtin_function_or_method":
                return self._of_builtin(
                    memory, head[o.builtin_method // 8], head[o.builtin_self // 8], loop
                )
            else:
                return Label(CALLBACK + kind.name, 0)
        raise malformed("a callback is wrapped too often")

    def _of_builtin(self, memory: Readable, method: int, owner: int, loop: int) -> Label:
        """Return the name of a function in C; of a task's, it is the step that the task takes."""
        objects = self._objects
        name = (
            memory.read(words(memory, method, 1)[0], _LONGEST)
            .split(b"\0", 1)[0]
            .decode("utf-8", "replace")
        )
        if not owner:
            return Label(CALLBACK + name, 0)
        a_type = objects.type_at(memory, owner)
        if name == _WAKEUP and objects.is_a(memory, a_type, self._places.task_type):
            return Label(self.of_task(memory, owner, loop), owner)
        kind = objects.type(memory, a_type)
        return Label(CALLBACK + (name if kind.name == "module" else f"{kind.name}.{name}"), 0)
