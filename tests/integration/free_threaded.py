"""A free-threaded CPython: that it has no GIL, or the one that it uses, with a publisher and without.

Not among the tests that are found by name: ``tests/setup-free-threaded`` builds the interpreter, which
takes minutes. Then: ``pytest tests/integration/free_threaded.py``.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.harness import run, until
from tests.integration.conftest import Fleet
from tests.integration.sampling import promptly
from tests.integration.test_doctor_loops import ASYNCIO
from tests.integration.test_gil_found import observe, tables_of
from tests.integration.test_names_from_memory import until as names_until
from tests.integration.test_states import Lab, Window, lab
from tests.names_outside import Outside, started
from tests.serving import ready
from tests.testbed import TESTBED, Interpreter
from threadwatch.config.defaults import DEFAULT_CONFIG
from threadwatch.metrics.exporter import Exporter
from threadwatch.names.memory.gils import find_gils
from threadwatch.names.memory.snapshot import Snapshot
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS

PYTHON = TESTBED / "freethreaded/bin/python3.13t"


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    """Return the free-threaded CPython."""
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
    """Return what is seen of two threads that compute."""
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


def test_names_without_a_publisher(interpreter: Interpreter) -> None:
    """Names are read from memory as they are of other builds: odd ones, renamed ones, and a thousand."""
    with started(interpreter) as target:
        outside = Outside(target.pid)
        for command in ("kinds", "rename again-é", "many 1000"):
            target.ask(command)
            names_until(outside.names, target.kept_names())
        assert find_gils(Snapshot(outside.memory, 64), outside.following.python) == ()
        outside.close()


SWITCHED_ON = """
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "needs_gil", NULL, 0, NULL};
PyMODINIT_FUNC PyInit_needs_gil(void) { return PyModuleDef_Init(&module); }
"""


def test_a_gil_that_is_switched_on_later(interpreter: Interpreter, tmp_path: Path) -> None:
    """The GIL that an extension switches on, which has not been made for builds without one, is seen."""
    (tmp_path / "needs_gil.c").write_text(SWITCHED_ON)
    include = f"-I{TESTBED}/freethreaded/include/python3.13t"
    source, library = str(tmp_path / "needs_gil.c"), str(tmp_path / "needs_gil.so")
    subprocess.run(["cc", "-shared", "-fPIC", include, source, "-o", library], check=True)
    code = (
        "import signal, sys, threading\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "threading.Thread(target=sys.stdin.read, name='reads', daemon=True).start()\n"
        "def work():\n while True: sum(range(1000))\n"
        "print(flush=True)\nsignal.sigwait({signal.SIGUSR1})\nimport needs_gil\n"
        "threading.Thread(target=work, name='works', daemon=True).start()\nprint(flush=True)\nwork()"
    )
    with subprocess.Popen(
        [*interpreter.command, "-W", "ignore", "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        poller = Poller(ProcFS(), DEFAULT_CONFIG, report=lambda _error: None)
        try:
            assert process.stdout is not None
            process.stdout.readline()
            poller.always_watch(frozenset({process.pid}))

            def gil() -> object:
                poller.sample_for(0.05)
                shown = [p for p in poller.poll().processes if p.key.pid == process.pid]
                return shown[0].python and shown[0].python.gil if shown else None

            until(lambda: gil() is False, "a Python without a GIL is seen")
            process.send_signal(signal.SIGUSR1)
            process.stdout.readline()
            until(lambda: gil() is True, "its GIL is seen")
        finally:
            poller.close()
            process.kill()


def test_loops_are_not_read() -> None:
    """No loop is told of, and doctor says why."""
    with ready(str(PYTHON), "-c", ASYNCIO) as process:
        said = json.loads(run("doctor", str(process.pid), "--json").stdout)
    (found,) = said["processes"]
    assert (found["loops"], found["no_loops_because"]) == ([], "unsupported")
    assert found["no_loops_detail"] == "tasks of free-threaded builds are not read"
