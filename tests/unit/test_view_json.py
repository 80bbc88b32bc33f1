"""A View as JSON: what it says, and what is no view."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from typing import Any

import pytest

from tests import views
from tests.testbed import CHECKOUT
from threadwatch.errors import Malformed
from threadwatch.model.view import View
from threadwatch.words.from_json import parse_view
from threadwatch.words.to_json import process_json, view_json


def _said(view: View) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(json.dumps(view_json(view)))
    return said


def test_a_view_comes_back() -> None:
    """What is encoded and parsed is the same view, but for series and what processes were given."""
    sample = views.sample()
    groups = tuple(group._replace(cpu_ns=7_123_456_789) for group in sample.groups)
    view = sample._replace(boottime_ns=123_456_789_012_345, groups=groups)
    without = view._replace(groups=tuple(group._replace(series={}) for group in groups))
    assert parse_view(json.dumps(view_json(view)).encode()) == without


def test_an_older_daemon_names_no_host() -> None:
    """The view of a daemon that does not say which host it looks at is a view all the same."""
    said = _said(views.sample())
    assert said["host"] == {"name": "testhost", "cpus": 8, "load": [1.5, 1.25, 1.0]}
    del said["host"]
    assert parse_view(json.dumps(said).encode()).host is None


def test_names_come_back_whatever_they_are() -> None:
    """Hostile names, lone surrogates too, are the same after encoding and parsing."""
    names = [*views.HOSTILE, views.SURROGATES]
    view = views.view(processes=(views.process(1, "x", *enumerate(names, 1)),))
    (process,) = parse_view(json.dumps(view_json(view)).encode()).processes
    assert [thread.name for thread in process.threads] == names


def test_what_is_not_known_is_null() -> None:
    """A thread at first sight has no shares, and none of them is 0."""
    process = views.process(1, "x", (1, "a"))
    (thread,) = process.threads
    new = replace(thread, cpu_ratio=None, user_ratio=None, states=None, gil_held_ratio=None)
    (said,) = _said(views.view(processes=(replace(process, threads=(new,)),)))["processes"]
    keys = ("cpu_percent", "user_percent", "states_percent", "gil_held_percent")
    assert [said["threads"][0][key] for key in keys] == [None] * 4
    assert said["gil_held_percent"] is None


def test_a_daemon_that_knows_no_loops() -> None:
    """A view whose threads have no key for loops is one, of threads without loops."""
    said = _said(views.sample())
    for process in said["processes"]:
        for thread in process["threads"]:
            del thread["loop"]
    processes = parse_view(json.dumps(said).encode()).processes
    assert {thread.loop for process in processes for thread in process.threads} == {None}


def test_arguments_of_processes_stay_here() -> None:
    """The view leaves out what a process was given; ``ps``, which asks the kernel as its user, shows it."""
    process = replace(
        views.process(1, "x", (1, "a")), cmdline=("python3", "-u", "app.py", "--password=x")
    )
    (said,) = _said(views.view(processes=(process,)))["processes"]
    assert said["cmdline"] == ["python3", "-u", "app.py"]
    assert process_json(process)["cmdline"] == ["python3", "-u", "app.py", "--password=…"]


def test_start_times_are_since_boot() -> None:
    """A start time in ticks since boot is a Unix time by way of the view's two clocks."""
    view = views.view(time=1_000_000.5, boottime_ns=500_000_000_000)
    assert view.started(49_950) == pytest.approx(1_000_000.0)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sequence": "1"}, "sequence should be a whole number, not '1'"),
        ({"sequence": True}, "sequence should be a whole number"),
        ({"time": float("inf")}, "time should be a number"),
        ({"time": 1e300}, "time should be a number"),
        ({"details": None}, "details should be true or false"),
        ({"processes": {}}, "processes should be an array"),
        ({"processes": [3]}, r"processes\[0\] should be an object, not 3"),
        ({"processes": [{}]}, r"processes\[0\]\.pid is missing"),
        ({"groups": [{"name": 5}]}, r"groups\[0\]\.pythons is missing"),
        ({"host": {"name": "a", "cpus": 1, "load": [1]}}, "host.load should be an array of three"),
        ({"stats": []}, "stats should be an object"),
        ({"interval_seconds": "x" * 1000}, "not 'x{59}…$"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(change: dict[str, Any], complaint: str) -> None:
    """A value that no view has is one error, which names the key."""
    with pytest.raises(Malformed, match=complaint):
        parse_view(json.dumps({**view_json(views.sample()), **change}).encode())


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[]", b"null", b"[" * 100_000, b"9" * 5_000, b'"a"', b"{}"]
)
def test_what_is_no_view_is_malformed(body: bytes) -> None:
    """Whatever comes instead of a view is one named error."""
    with pytest.raises(Malformed):
        parse_view(body)


def test_docs_ask_jq_for_keys_that_there_are() -> None:
    """Each key in the examples with jq, in docs and help, is one of the JSON of a command."""
    sources = [
        CHECKOUT / "threadwatch" / name for name in ("words/to_json.py", "doctor/command.py")
    ]
    keys = {
        key.value
        for source in sources
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    }
    pages = [*CHECKOUT.glob("docs/**/*.md"), CHECKOUT / "threadwatch/commands/arguments.py"]
    examples = [one for page in pages for one in re.findall(r"jq '([^']+)'", page.read_text())]
    assert len(examples) >= 3
    assert {key for one in examples for key in re.findall(r"\.(\w+)", one)} <= keys
