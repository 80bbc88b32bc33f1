"""Knows where CPython 3.9 to 3.15 keeps frames, code, coroutines and the tasks of asyncio: 64 bits.

Nothing of this is described by CPython up to 3.12, and a part from 3.13 on; the table was made by searching
in each of 3.9.18, 3.10.13, 3.11.7, 3.12.1, 3.13.0, 3.14.8 and 3.15.0, all with a GIL. What it says is proven
in each process before it is believed: see :mod:`.places` and :mod:`.labels`. Versions that are not listed are
refused, and so are free-threaded builds.

CPython: Include/internal/pycore_frame.h (pycore_interpframe_structs.h), pycore_genobject.h, pycore_tstate.h,
cpython/code.h, Modules/_asynciomodule.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from threadwatch.errors import Malformed, Unsupported
from threadwatch.names.memory.walk import Python

SOURCE = "tasks"
"""The source of errors with what a process has in its memory of loops and tasks."""
TAGS = 7
"""Bits of pointers on frames that are no part of the address (3.14 and later)."""


def malformed(detail: str) -> Malformed:
    """Return the error of memory that has no loops as asyncio makes them."""
    return Malformed(SOURCE, detail)


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets in bytes, in the structs that the comments name."""

    # PyFrameObject in 3.9 and 3.10, later _PyInterpreterFrame
    frame_code: int
    frame_previous: int
    frame_locals: int
    # PyThreadState
    current_frame: tuple[int, ...]
    """The way to the frame that runs: two offsets where it goes by a _PyCFrame."""
    running_loop: int
    """The loop that runs in the thread; 0: not there (before 3.13)."""
    running_task: int
    """The task that runs in that loop; 0: not there (before 3.14)."""
    # PyCodeObject
    code_name: int
    code_filename: int
    code_qualname: int
    """0: not there (before 3.11)."""
    code_locals: int
    """The tuple of the names of locals."""
    # PyTupleObject
    tuple_items: int
    # PyFunctionObject
    function_code: int
    function_qualname: int
    # PyCoroObject, PyGenObject
    coroutine_qualname: int
    # TaskObj
    task_coroutine: int
    """The task's name follows; what it waits for stands in front."""
    task_state: int
    """An int32, 0 as long as it is not done."""
    task_node: int
    """The task's place in the list of its thread's tasks; 0: there is none (before 3.14)."""
    state_tasks: int
    """In PyThreadState, the head of that list."""
    interpreter_tasks: int
    """In PyInterpreterState, the same of threads that have ended."""
    # _PyInterpreterFrame
    frame_instruction: int = 56
    """What says which instruction runs: other 8 bytes in 3.9 and 3.10."""
    # The same in all versions
    tuple_size: int = 16
    type_base: int = 256
    type_dict: int = 264
    type_flags: int = 168
    task_loop: int = 16
    """Also a future's."""
    handle_callback: int = 24
    method_function: int = 16
    builtin_method: int = 16
    builtin_self: int = 24
    partial_function: int = 16
    wrapper_task: int = 16
    """Of what asyncio's C code calls to take a step of a task."""
    float_value: int = 16
    set_used: int = 24
    """The mask, and the address of the entries, follow."""
    reference_object: int = 16


def layout_of(python: Python) -> Layout:
    """Return how that Python is laid out; :class:`Unsupported` if it is not known."""
    offsets = python.offsets
    if offsets.free_threaded:
        raise Unsupported(SOURCE, "tasks of free-threaded builds are not read")
    if offsets.minor not in _TABLE:
        raise Unsupported(SOURCE, f"the tasks of CPython 3.{offsets.minor} are not known")
    return _TABLE[offsets.minor]


_TABLE = {
    9: Layout(
        frame_code=32,
        frame_previous=24,
        frame_locals=360,
        current_frame=(24,),
        running_loop=0,
        running_task=0,
        code_name=112,
        code_filename=104,
        code_qualname=0,
        code_locals=72,
        tuple_items=24,
        function_code=16,
        function_qualname=104,
        coroutine_qualname=56,
        task_coroutine=152,
        task_state=80,
        task_node=0,
        state_tasks=0,
        interpreter_tasks=0,
        frame_instruction=104,
    ),
    10: Layout(
        frame_code=32,
        frame_previous=24,
        frame_locals=352,
        current_frame=(24,),
        running_loop=0,
        running_task=0,
        code_name=112,
        code_filename=104,
        code_qualname=0,
        code_locals=72,
        tuple_items=24,
        function_code=48,
        function_qualname=40,
        coroutine_qualname=48,
        task_coroutine=160,
        task_state=88,
        task_node=0,
        state_tasks=0,
        interpreter_tasks=0,
        frame_instruction=96,
    ),
    11: Layout(
        frame_code=32,
        frame_previous=48,
        frame_locals=72,
        current_frame=(56, 8),
        running_loop=0,
        running_task=0,
        code_name=120,
        code_filename=112,
        code_qualname=128,
        code_locals=96,
        tuple_items=24,
        function_code=48,
        function_qualname=40,
        coroutine_qualname=40,
        task_coroutine=136,
        task_state=88,
        task_node=0,
        state_tasks=0,
        interpreter_tasks=0,
    ),
    12: Layout(
        frame_code=0,
        frame_previous=8,
        frame_locals=72,
        current_frame=(56, 0),
        running_loop=0,
        running_task=0,
        code_name=120,
        code_filename=112,
        code_qualname=128,
        code_locals=96,
        tuple_items=24,
        function_code=48,
        function_qualname=40,
        coroutine_qualname=32,
        task_coroutine=136,
        task_state=88,
        task_node=0,
        state_tasks=0,
        interpreter_tasks=0,
    ),
    13: Layout(
        frame_code=0,
        frame_previous=8,
        frame_locals=72,
        current_frame=(72,),
        running_loop=304,
        running_task=0,
        code_name=120,
        code_filename=112,
        code_qualname=128,
        code_locals=96,
        tuple_items=24,
        function_code=48,
        function_qualname=40,
        coroutine_qualname=32,
        task_coroutine=120,
        task_state=96,
        task_node=0,
        state_tasks=0,
        interpreter_tasks=0,
    ),
    14: Layout(
        frame_code=0,
        frame_previous=8,
        frame_locals=80,
        current_frame=(72,),
        running_loop=864,
        running_task=872,
        code_name=120,
        code_filename=112,
        code_qualname=128,
        code_locals=96,
        tuple_items=32,
        function_code=48,
        function_qualname=40,
        coroutine_qualname=32,
        task_coroutine=128,
        task_state=104,
        task_node=152,
        state_tasks=880,
        interpreter_tasks=10880,
    ),
    15: Layout(
        frame_code=0,
        frame_previous=8,
        frame_locals=80,
        current_frame=(72,),
        running_loop=1024,
        running_task=1032,
        code_name=120,
        code_filename=112,
        code_qualname=128,
        code_locals=96,
        tuple_items=32,
        function_code=48,
        function_qualname=40,
        coroutine_qualname=32,
        task_coroutine=128,
        task_state=104,
        task_node=152,
        state_tasks=1048,
        interpreter_tasks=10856,
    ),
}
