"""Tells what tasks and callbacks are called, from what is in memory of them."""

from __future__ import annotations

import re
from typing import NamedTuple

from threadwatch.model.loops import CALLBACK, UNKNOWN
from threadwatch.names.memory.snapshot import Memory, word
from threadwatch.tasks.layout import Layout, malformed
from threadwatch.tasks.objects import Objects, words
from threadwatch.tasks.places import Places

_DEFAULT_NAME = re.compile(r"Task-[0-9]+")
"""What asyncio calls a task that nothing else was said of."""
_COROUTINES = frozenset({"coroutine", "generator"})
_STEPS = frozenset({"TaskStepMethWrapper", "TaskWakeupMethWrapper"})
_WAKEUP = "task_wakeup"
_MOST_WRAPPED = 8
"""How many partials and methods may be around a function."""
_LONGEST = 64


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

    def of_task(self, memory: Memory, task: int, loop: int) -> str:
        """Return what a task of that loop is called.

        :raises Gone: the program has ended.
        :raises ReadError: it is no such task, or no more.
        """
        size = self._layout.task_size
        data = memory.read(task, size)
        text = self.of_task_data(memory, data, loop)
        # As long as the task is the same, its coroutine and its name are not freed. So what was read of
        # them meanwhile is theirs.
        if self._lasting(memory.read(task, size)) != self._lasting(data):
            raise malformed("a task has ended")
        return text

    def of_task_data(self, memory: Memory, data: bytes, loop: int) -> str:
        """Return the same by the task's first bytes, which have to be read again afterwards."""
        o, objects = self._layout, self._objects
        if not objects.is_a(memory, word(data, self._ob_type), self._places.task_type):
            raise malformed("what should be a task is none")
        if word(data, o.task_loop) != loop:
            raise malformed("a task is of another loop")
        name = objects.text_if_str(memory, word(data, o.task_coroutine + 8))
        if name and not _DEFAULT_NAME.fullmatch(name):
            return name
        coroutine = memory.read(word(data, o.task_coroutine), o.coroutine_qualname + 8)
        kind = objects.type(memory, word(coroutine, self._ob_type))
        if not kind.builtin or kind.name not in _COROUTINES:
            return UNKNOWN
        return objects.shared_text(memory, word(coroutine, o.coroutine_qualname))

    def of_handle(self, memory: Memory, handle: int, loop: int) -> Label:
        """Return what the callback of a handle is called, or the task that it takes a step of.

        :raises Gone: the program has ended.
        :raises ReadError: it is no handle, or no more.
        """
        o = self._layout
        head = words(memory, handle, o.handle_callback // 8 + 1)
        if not self._objects.is_a(memory, head[self._ob_type // 8], self._places.handle_type):
            raise malformed("what should be a handle is none")
        return self._of_callable(memory, head[o.handle_callback // 8], loop)

    def _of_callable(self, memory: Memory, address: int, loop: int) -> Label:
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

    def _of_builtin(self, memory: Memory, method: int, owner: int, loop: int) -> Label:
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

    @property
    def _kept(self) -> slice:
        return slice(self._layout.task_coroutine, self._layout.task_coroutine + 16)

    def _lasting(self, data: bytes) -> bytes:
        """Return what stays the same in a task's life: its type, its loop, its coroutine, its name."""
        return data[self._ob_type : self._layout.task_loop + 8] + data[self._kept]
