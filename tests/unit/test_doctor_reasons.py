"""From what a process shows of itself to why it does not publish: interpreters that not every machine has."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, get_args

import pytest

from tests.testbed import CHECKOUT
from threadwatch.doctor.findings import Cause
from threadwatch.doctor.reasons import reason
from threadwatch.doctor.signs import Evidence, was_asked

PLAIN = Evidence(
    cmdline=("/opt/shop/bin/python", "app.py"),
    exe="/usr/bin/python3.12",
    files=frozenset({"/usr/lib/libc.so.6"}),
    environ={"THREADWATCH": "1", "PYTHONPATH": "/srv/threadwatch/inject"},
    asked_above=None,
    age_s=100.0,
    filtered=False,
)
DYNLOAD = "/opt/python3.8/lib/python3.8/lib-dynload/_ssl.cpython-38-x86_64-linux-gnu.so"


@pytest.mark.parametrize(
    ("shown", "kind", "says"),
    [
        ({"exe": "/usr/bin/python2.7"}, "unsupported", "On Python 2.7: 3.9 and later can publish"),
        ({"exe": "/bin/shop", "files": frozenset({DYNLOAD})}, "unsupported", "On Python 3.8"),
        (
            {"exe": "/usr/lib/pypy3.9/bin/pypy3.9-c", "files": frozenset({"/lib/libpypy3.9-c.so"})},
            "unsupported",
            "On PyPy",
        ),
        (
            {
                "exe": "/srv/dist/shop",
                "files": frozenset({"/srv/dist/_internal/libpython3.12.so.1.0"}),
                "environ": {},
            },
            "frozen",
            "has a Python of its own",
        ),
        (
            {"exe": "/srv/shop", "files": frozenset({"/tmp/_MEIx1/libpython3.12.so.1.0"})},  # noqa: S108 - PyInstaller's place
            "frozen",
            "",
        ),
        (
            {"exe": "/usr/bin/uwsgi", "files": frozenset({"/usr/lib/libpython3.12.so.1.0"})},
            "unexplained",
            "uwsgi has Python built in",
        ),
        ({"exe": "/bin/bash", "environ": {}}, "no-python", "not a Python process"),
        ({"exe": "/bin/bash", "environ": {}, "files": None}, "not-published", ""),
        ({"age_s": 0.5}, "starting", "only just started"),
        ({"environ": {}, "age_s": 0.5}, "not-published", ""),
        ({"environ": None}, "not-published", "is unknown whether"),
        ({"environ": {}, "asked_above": 7}, "environment-reset", "ancestor, PID 7"),
        ({"environ": {"THREADWATCH": "off"}}, "switched-off", "THREADWATCH=off"),
        ({"cmdline": ("python3", "-W", "S", "-bI", "x.py", "-S")}, "isolated", "with -I"),
        ({"cmdline": ("python3", "-m", "shop", "-I")}, "unexplained", "THREADWATCH_DEBUG=1"),
        ({"cmdline": ("python3", "-cx", "-I")}, "unexplained", ""),
        ({"cmdline": ("shop: worker -I",)}, "unexplained", ""),
        (
            {"environ": {"THREADWATCH": " Off", "PYTHONPATH": "/srv/threadwatch/inject"}},
            "switched-off",
            "",
        ),
        ({"exe": "/usr/bin/python3.12 (deleted)"}, "unexplained", ""),
    ],
)
def test_what_is_shown_gives_the_reason(shown: dict[str, Any], kind: str, says: str) -> None:
    """Each interpreter, start and environment has its own reason; options of the program are none."""
    found = reason(replace(PLAIN, **shown), "none")
    assert found.kind == kind
    assert says in found.why


@pytest.mark.parametrize(
    ("shown", "table", "kind"),
    [
        ({}, "closed", "withdrawn"),
        ({}, "unfinished", "starting"),
        ({"table_of": 7, "is_of_ancestor": True}, "another's", "forked"),
        ({"table_of": 7}, "another's", "anothers-table"),
        ({"table_of": 7, "is_own_number": True}, "another's", "anothers-table"),
        ({"files": frozenset({"/memfd:threadwatch (deleted)"})}, "none", "closed-files"),
    ],
)
def test_what_has_become_of_the_table(shown: dict[str, Any], table: str, kind: str) -> None:
    """What is left of a table tells, whatever the process was asked."""
    assert reason(replace(PLAIN, **shown), table).kind == kind


def test_to_be_asked() -> None:
    """What `run` puts on PYTHONPATH is enough, and so is THREADWATCH, unless it says no."""
    assert was_asked({"PYTHONPATH": "/a:/b/threadwatch/inject/:/c"})
    assert was_asked({"THREADWATCH": "1"})
    assert not was_asked({"THREADWATCH": "No", "PYTHONPATH": "/threadwatch"})


def test_no_way_is_one_that_does_not_lead_there() -> None:
    """Where `run` cannot reach, it is not advised; the interpreter whose environment it is is named."""
    isolated = reason(replace(PLAIN, cmdline=("/opt/shop/bin/python", "-I", "x.py")), "none")
    lines = [line for way in isolated.ways for line in way.lines]
    assert lines == [
        "/opt/shop/bin/python -m pip install CHECKOUT",
        "THREADWATCH=1 COMMAND",
    ]
    pex = ("python3", "-sE", "/srv/.pex/unzipped_pexes/1/b300ab670b94873d")
    (build, _) = reason(replace(PLAIN, cmdline=pex), "none").ways
    assert build.lines == ("pex … CHECKOUT",)
    behind = {"THREADWATCH": "1", "PYTHONPATH": "/opt/tool:/srv/threadwatch/inject"}
    ways = reason(replace(PLAIN, environ=behind), "none").ways
    assert ways[1].lines == ("TOOL threadwatch run -- COMMAND",)
    for cannot in ({"exe": "/usr/bin/python2.7"}, {"exe": "/bin/bash", "environ": {}}):
        assert reason(replace(PLAIN, **cannot), "none").ways == ()


@pytest.mark.parametrize(
    "shown", [{"environ": {}}, {"cmdline": ("python3.14", "-I", "x.py")}, {"environ": None}]
)
def test_a_process_that_can_be_attached_to(shown: dict[str, Any]) -> None:
    """From 3.14 on, attaching is advised where a process was only not started to publish."""
    attach = ("threadwatch attach PID",)
    newer = reason(replace(PLAIN, exe="/usr/bin/python3.14", **shown), "none")
    assert newer.ways[-1].lines == attach
    older = reason(replace(PLAIN, exe="/usr/bin/python3.13", **shown), "none")
    assert older.ways == newer.ways[:-1]
    forbidden = replace(PLAIN, exe="/usr/bin/python3.14", environ={"THREADWATCH": "0"})
    assert attach not in [way.lines for way in reason(forbidden, "none").ways]


def test_every_kind_is_told_of() -> None:
    """docs/doctor.md names each kind of thing that can be missing."""
    documentation = (CHECKOUT / "docs/doctor.md").read_text()
    source = "".join(path.read_text() for path in (CHECKOUT / "threadwatch/doctor").glob("*.py"))
    kinds = set(re.findall(r'(?:Reason|Missing)\(\s*"([a-z-]+)"', source))
    kinds |= {cause.replace(" ", "-") for cause in get_args(Cause)}
    assert len(kinds) > 25
    assert {kind for kind in kinds if f"`{kind}`" not in documentation} == set()
