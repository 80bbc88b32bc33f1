"""Writes the Python stacks of one process's threads, for ``threadwatch stack``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from threadwatch.model.view import ProcessView, ThreadView
from threadwatch.stacks.dump import Stack
from threadwatch.words.closeup_json import python_stack_json
from threadwatch.words.text import cut, printable
from threadwatch.words.wording import command, thread_name, version

Paired = tuple[ThreadView, Stack | None]
"""A thread, and its stack; None: no Python code runs on it."""


def pair(threads: Sequence[ThreadView], stacks: Sequence[Stack]) -> list[Paired]:
    """Return each thread with its stack: by TID, or by name where py-spy cannot tell the TID."""
    by_tid = {stack.tid: stack for stack in stacks if stack.tid is not None}
    by_name = {stack.name: stack for stack in stacks if stack.tid is None}
    return [(one, by_tid.get(one.tid) or by_name.get(one.name)) for one in threads]


def stack_lines(
    process: ProcessView, paired: Sequence[Paired], *, columns: int | None
) -> Iterator[str]:
    """Yield the lines; the command line is cut to that many columns; None: it is not."""
    python = f" · {version(process.python)}" if process.python else ""
    headline = (
        f"{printable(process.group)}   PID {process.key.pid}{python}   {command(process, None)}"
    )
    yield headline if columns is None else cut(headline, columns)
    for thread, stack in paired:
        gil = " · holds the GIL" if stack is not None and stack.holds_gil else ""
        yield ""
        yield f"{thread.tid}  {thread_name(thread)}  {thread.state}{gil}"
        yield from (f"    {line}" for line in frame_lines(stack))


def frame_lines(stack: Stack | None) -> list[str]:
    """Return the lines of one thread's stack, the innermost call first."""
    if stack is None or not stack.frames:
        return ["no Python code runs on it"]
    width = min(max(len(printable(frame.function)) for frame in stack.frames), 40)
    return [
        f"{printable(frame.function):{width}}  {printable(frame.file)}:{frame.line or '?'}"
        for frame in stack.frames
    ]


def stack_json(paired: Sequence[Paired]) -> list[dict[str, Any]]:
    """Return the same for ``--json``; ``frames`` is null where no Python code runs."""
    return [
        {
            "tid": thread.tid,
            "name": thread.name,
            "state": thread.state,
            **python_stack_json(stack),
        }
        for thread, stack in paired
    ]
