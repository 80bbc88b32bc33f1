"""What a free-threaded CPython publishes: no GIL, or the one that it has been told to use.

Not among the tests that are found by name: ``tests/setup-free-threaded`` builds the interpreter, which
takes minutes. Then: ``pytest tests/integration/free_threaded.py``.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.integration.conftest import Fleet
from tests.integration.test_gil_found import observe, tables_of
from tests.testbed import TESTBED, Interpreter

PYTHON = TESTBED / "freethreaded/bin/python3.13t"


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    """The free-threaded CPython."""
    code = "import platform; print(platform.python_version())"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    return Interpreter((3, 13), done.stdout.strip(), (str(PYTHON),), Path("/"))


@pytest.mark.parametrize("mode", ["publish", "run"])
def test_without_a_gil(interpreter: Interpreter, mode: str, fleet: Fleet) -> None:
    """With the GIL off, the table says that the build is free-threaded, and tells of no GIL."""
    target = fleet.start(interpreter, "gil.py", "waits", mode=mode)
    step = target.next_step()
    assert step is not None
    (process,) = step.processes
    with tables_of(process.pid) as published:
        assert published.header is not None
        assert published.header.free_threaded
        assert published.gils == ()
    target.go()
    assert target.next_step() is None


@pytest.mark.parametrize("interval", ["0.005", "0.001"])
@pytest.mark.parametrize("mode", ["publish", "run"])
def test_with_the_gil_switched_on(
    interpreter: Interpreter, mode: str, interval: str, fleet: Fleet
) -> None:
    """With PYTHON_GIL=1 there is one, and its threads wait for it as in any other build."""
    on = {"PYTHON_GIL": "1"}
    target = fleet.start(interpreter, "gil.py", "waits", interval, mode=mode, environment=on)
    step = target.next_step()
    assert step is not None
    (process,) = step.processes
    observe(interpreter, process, 1)
    with tables_of(process.pid) as published:
        assert published.header is not None
        assert published.header.free_threaded
    target.go()
    assert target.next_step() is None
