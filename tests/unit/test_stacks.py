"""What py-spy prints is read as it stands, and whatever else it may print is one error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadwatch.closeup.python_stacks import with_our_tids
from threadwatch.errors import Malformed
from threadwatch.stacks.dump import Frame, Stack, parse_dump
from threadwatch.words.stack_text import frame_lines

FRAME: dict[str, Any] = {"name": "run", "filename": "/srv/a.py", "line": 7, "locals": None}
THREAD: dict[str, Any] = {
    "pid": 1,
    "thread_id": 140_042_748_827_328,
    "thread_name": "worker",
    "os_thread_id": 12,
    "owns_gil": True,
    "frames": [FRAME],
}


def test_a_dump() -> None:
    """Name, TID, GIL and frames are those of py-spy; a thread without a name or TID has none."""
    data = json.dumps([THREAD, THREAD | {"thread_name": None, "os_thread_id": None, "frames": []}])
    assert parse_dump(data.encode()) == (
        Stack(12, "worker", True, (Frame("run", "/srv/a.py", 7),)),
        Stack(None, None, True, ()),
    )


def test_tids_of_another_namespace() -> None:
    """A stack has our TID for its thread, whether py-spy tells the process's own TIDs, or ours, or none."""
    own = {1: 500, 7: 501, 500: 502}
    for told in ((1, 7, 500, None), (500, 501, 502, None)):
        stacks = tuple(Stack(tid, str(tid), False, ()) for tid in told)
        assert [one.tid for one in with_our_tids(stacks, own)] == [500, 501, 502, None]
        assert with_our_tids(stacks, {}) == stacks


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(THREAD)), inner)
    ),
)


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes(data: bytes) -> None:
    """Any bytes give stacks, or Malformed."""
    try:
        stacks = parse_dump(data)
    except Malformed:
        return
    assert all(isinstance(stack, Stack) for stack in stacks)


@pytest.mark.parametrize("stack", [None, Stack(1, "x", False, ())], ids=["none", "no-frames"])
def test_a_thread_without_python(stack: Stack | None) -> None:
    """A thread that runs no Python code is said to."""
    assert frame_lines(stack) == ["no Python code runs on it"]


def test_hostile_names_are_text() -> None:
    """What a process calls its functions and files reaches no terminal unescaped."""
    (line,) = frame_lines(Stack(1, "x", False, (Frame("\x1b[2J", "/srv/\n.py", 0),)))
    assert line.isprintable()
    assert line.endswith(":?")
