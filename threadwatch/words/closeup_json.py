"""Turns a close look at one thread into the JSON of the API, and back. Pure and total."""

from __future__ import annotations

import json
from dataclasses import asdict

from threadwatch.errors import Gone, Malformed
from threadwatch.model.closeup import Examined
from threadwatch.stacks.dump import Frame, Stack
from threadwatch.words.json_object import JsonObject
from threadwatch.words.text import printable


def examined_json(examined: Examined) -> dict[str, object]:
    """Return what the kernel tells, without the arguments of the system call: these hold addresses."""
    document = asdict(examined)
    del document["arguments"]
    return document


def python_stack_json(stack: Stack | None) -> dict[str, object]:
    """Return a Python stack; ``frames`` is null where no Python code runs."""
    return {
        "holds_gil": stack is not None and stack.holds_gil,
        "frames": None
        if stack is None
        else [
            {"function": frame.function, "file": frame.file, "line": frame.line or None}
            for frame in stack.frames
        ],
    }


def parse_examined(body: bytes) -> Examined:
    """Return what :func:`examined_json` was made of, without arguments.

    :raises Gone: the daemon says that there is no such thread.
    :raises Malformed: it is something else.
    """
    found = _object(body)
    return Examined(
        syscall=printable(found.text("syscall")),
        arguments="",
        wchan=printable(found.text("wchan")),
        cpus=printable(found.text("cpus")),
        voluntary_switches=_number(found, "voluntary_switches"),
        involuntary_switches=_number(found, "involuntary_switches"),
        stack=tuple(map(printable, found.texts("stack"))),
        stack_note=printable(found.text("stack_note")),
    )


def parse_python_stack(body: bytes) -> Stack | None:
    """Return what :func:`python_stack_json` was made of, without TID and name.

    :raises Gone: the daemon says that there is no such thread.
    :raises Malformed: it is something else.
    """
    found = _object(body)
    holds_gil = found.flag("holds_gil")
    if found.is_null("frames"):
        return None
    return Stack(None, None, holds_gil, found.array("frames", _frame))


def _frame(found: JsonObject) -> Frame:
    return Frame(found.text("function"), found.text("file"), _number(found, "line") or 0)


def _number(found: JsonObject, key: str) -> int | None:
    return None if found.is_null(key) else found.whole(key)


def _object(body: bytes) -> JsonObject:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed("view", f"is no JSON: {error}") from None
    if document is None:
        raise Gone("the daemon says that it has ended")
    return JsonObject(document, "")
