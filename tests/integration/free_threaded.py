"""What a free-threaded CPython publishes: no GIL, or the one that it has been told to use.

Not among the tests that are found by name: ``tests/setup-free-threaded`` builds the interpreter, which
takes minutes. Then: ``pytest tests/integration/free_threaded.py``.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.integration.conftest import Fleet
from tests.integration.sampling import promptly
from tests.integration.test_gil_found import observe, tables_of
from tests.integration.test_states import Lab, Window, lab
from tests.testbed import TESTBED, Interpreter
from threadwatch.metrics.exporter import Exporter

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


def watched(it: Lab, interpreter: Interpreter, on: Mapping[str, str]) -> Window:
    """What is seen of two threads that compute."""
    it.start(interpreter, "count", "2", environment=on)
    with promptly():
        it.begin()
        window = it.window(1.5)
    it.end()
    return window


def exposed(window: Window) -> str:
    """Return the last view, as it is scraped."""
    exporter = Exporter()
    exporter.publish(window.after)
    return exporter.render(None, None).body.decode()


def test_threads_that_have_no_gil(interpreter: Interpreter) -> None:
    """Threads that compute run side by side, and there is no series of a GIL, not even with 0."""
    with lab() as it:
        window = watched(it, interpreter, {})
        (load,) = it.loads
    text = exposed(window)
    assert 'build="free-threaded",gil="off"' in text
    assert "\nthreadwatch_gil_" not in text
    (group,) = window.after.groups
    for totals in group.series.values():
        assert totals.gil_held_ns is None
        assert "gil" not in totals.states
    ran = ready = 0.0
    for name in ("worker 0", "worker 1"):
        states = window.states(load, name)
        ran += states["running"]
        ready += states.get("runnable", 0) + states.get("sleeping", 0)  # late, where CPUs are taken
    assert ran + ready > 1.9
    assert ran > 1.3 - ready


def test_threads_that_have_one_after_all(interpreter: Interpreter) -> None:
    """With PYTHON_GIL=1 they wait for each other, and the series are there."""
    with lab() as it:
        window = watched(it, interpreter, {"PYTHON_GIL": "1"})
        (load,) = it.loads
    text = exposed(window)
    assert 'build="free-threaded",gil="on"' in text
    assert "\nthreadwatch_gil_held_seconds_total{" in text
    held = 0.0
    for name in ("worker 0", "worker 1"):
        states = window.states(load, name)
        busy = states["running"] + states.get("runnable", 0)
        assert states["gil"] == pytest.approx(1 - busy, abs=0.02)
        held += window.held(load, name)
    assert 0.9 < held < 1.01
