"""Finds what loops of trio consist of in a process: code, types, and the places of locals and attributes.

All is found by names in the module ``trio._core._run`` (trio 0.22 to 0.35): its loop is the generator
``unrolled_run``, which ``run`` resumes after each wait for events.
"""

from __future__ import annotations

from dataclasses import dataclass

from threadwatch.names.memory.snapshot import Memory, Snapshot
from threadwatch.names.memory.walk import Dicts
from threadwatch.tasks.imports import attribute
from threadwatch.tasks.kind import Shared
from threadwatch.tasks.layout import malformed

_FILE = "trio/_core/_run.py"
_MEMBER, _MEMBER_OFFSET = 40, 16
"""Where the descriptor of a slot has its definition, and that the place in the object (descrobject.h)."""
_LARGEST_OBJECT = 1 << 16


@dataclass(frozen=True, slots=True)
class TrioPlaces:
    """The parts of trio's loops. Places of locals and slots are offsets in bytes."""

    run: int
    """The code of the function ``run``."""
    loop: int
    """The code of the generator ``unrolled_run``."""
    task_type: int
    clock_type: int
    """That of ``SystemClock``, whose time is CLOCK_MONOTONIC and an offset."""
    runner_type: int
    # The locals of run
    run_generator: int
    # The locals of unrolled_run
    loop_runner: int
    loop_task: int
    loop_now: int
    loop_batch: int
    # Slots
    task_name: int
    task_coroutine: int
    task_next: int
    """What is called to resume the task: None, if it waits."""
    runner_tasks: int
    runner_queue: int
    runner_clock: int
    clock_offset: int
    standard_files: str
    """The directory of Python's own library, with a slash at the end."""


def find_places(
    shared: Shared, memory: Memory, snapshot: Snapshot, module: int
) -> TrioPlaces | None:
    """Return what that module has; None: it is just being imported.

    :raises Gone: the program has ended.
    :raises ReadError: it is not as it should be.
    """
    names = (b"run", b"unrolled_run", b"Task", b"SystemClock", b"Runner", b"GLOBAL_RUN_CONTEXT")
    found = [attribute(snapshot, shared.python, module, name) for name in names]
    if None in found:
        return None
    run_at, loop_at, task, clock, runner, _ = (address or 0 for address in found)
    run, loop = (
        _code(shared, memory, snapshot, at, name)
        for at, name in ((run_at, "run"), (loop_at, "unrolled_run"))
    )
    run_locals, loop_locals = (shared.objects.local_names(memory, code) for code in (run, loop))
    try:
        run_generator, loop_runner, loop_task, loop_now, loop_batch = (
            shared.layout.frame_locals + 8 * names_of.index(name)
            for names_of, name in (
                (run_locals, "gen"),
                (loop_locals, "runner"),
                (loop_locals, "task"),
                (loop_locals, "now"),
                (loop_locals, "batch"),
            )
        )
    except ValueError:
        raise malformed("trio's loop is another function") from None
    return TrioPlaces(
        run=run,
        loop=loop,
        task_type=task,
        clock_type=clock,
        runner_type=runner,
        run_generator=run_generator,
        loop_runner=loop_runner,
        loop_task=loop_task,
        loop_now=loop_now,
        loop_batch=loop_batch,
        task_name=_slot(shared, snapshot, task, b"name"),
        task_coroutine=_slot(shared, snapshot, task, b"coro"),
        task_next=_slot(shared, snapshot, task, b"_next_send_fn"),
        runner_tasks=_slot(shared, snapshot, runner, b"tasks"),
        runner_queue=_slot(shared, snapshot, runner, b"runq"),
        runner_clock=_slot(shared, snapshot, runner, b"clock"),
        clock_offset=_slot(shared, snapshot, clock, b"offset"),
        standard_files=shared.imports.standard_files(memory, shared.objects),
    )


def _code(shared: Shared, memory: Memory, snapshot: Snapshot, function: int, name: str) -> int:
    """Return the code of a function, which has to be that of trio's own file."""
    objects = shared.objects
    if not objects.is_builtin(memory, objects.type_at(memory, function), "function"):
        raise malformed(f"trio's {name} is no function")
    address = snapshot.word(function + shared.layout.function_code)
    code = objects.code(memory, address)
    if code.name != name or not code.file.endswith(_FILE):
        raise malformed(f"trio's {name} is {code.name} of {code.file}")
    return address


def _slot(shared: Shared, snapshot: Snapshot, a_type: int, name: bytes) -> int:
    """Return where objects of a class have an attribute that the class has a slot for."""
    found = Dicts(snapshot, shared.python).values(
        snapshot.word(a_type + shared.layout.type_dict), frozenset({name})
    )
    if name not in found:
        raise malformed(f"a class of trio has no slot {name.decode()}")
    descriptor = found[name][1]
    kind = snapshot.word(descriptor + shared.python.offsets.ob_type)
    if not shared.objects.is_builtin(snapshot, kind, "member_descriptor"):
        raise malformed(f"what trio has as {name.decode()} is no slot")
    offset = snapshot.word(snapshot.word(descriptor + _MEMBER) + _MEMBER_OFFSET)
    if not shared.python.offsets.object_size <= offset < _LARGEST_OBJECT:
        raise malformed(f"no slot is at {offset}")
    return offset
