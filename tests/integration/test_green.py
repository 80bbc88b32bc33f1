"""Greenlets that call themselves threads, with the real gevent and eventlet: only threads are threads.

Either library may patch ``threading`` after the publisher has hooked it, or before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests import programs, testbed
from tests.harness import Target
from tests.integration import comparison
from tests.integration.conftest import Fleet
from tests.loads import Load, Watch
from tests.testbed import Interpreter
from threadwatch.model.keys import UNATTRIBUTED

ORDERS = ("first", "last")
LIBRARIES = ("eventlet", "gevent")
QUIET = ("-W", "ignore")
"""eventlet says at each import that it is deprecated."""


def _with(interpreter: Interpreter, library: str) -> Interpreter:
    """Return the interpreter of an environment that has the library."""
    requirement = library
    if library == "eventlet":
        requirement = "eventlet==0.40.4" if interpreter.version < (3, 10) else "eventlet==0.41.3"
    directory = programs.environment(interpreter, requirement)
    return replace(interpreter, command=programs.python(interpreter, directory))


@pytest.mark.parametrize("order", ORDERS)
def test_eventlet(order: str, fleet: Fleet) -> None:
    """The main thread and those of eventlet's pool have their names, whatever greenlets are called."""

    def targets() -> Iterator[Target]:
        for interpreter in testbed.interpreters():
            for mode in ("publish", "run"):
                python = _with(interpreter, "eventlet")
                yield fleet.start(python, "green_eventlet.py", order, mode=mode, options=QUIET)

    comparison.drive(targets())


def _is_met(watch: Watch, load: Load) -> bool:
    """Return whether the names of its threads are known."""
    process = watch.process(load.pid)
    return process is not None and all(t.source == "published" for t in process.threads)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_cpu_time(library: str, order: str) -> None:
    """The CPU time by name is what the kernel says of each thread, and only threads start and end."""
    watch = Watch()
    loads = [
        Load(_with(interpreter, library), "load_green.py", watch.mark, library, order)
        for interpreter in testbed.interpreters()[::3]
    ]
    try:
        for load in loads:
            load.hear("ready")  # all of them: nothing is charged to the names that they had before
        watch.poll_until(lambda: all(_is_met(watch, load) for load in loads), "their tables")
        for load in loads:
            load.go()
        for load in loads:
            watch.poll_while(load, interval=0.3)
        told = [load.hear("done") for load in loads]
        watch.settle()
        clocks_ns = sum(load.clock_ns() for load in loads)
        assert sum(watch.cpu.values()) == pytest.approx(clocks_ns, rel=0.001)
        main = {"main, at first", "main, later"} if library == "eventlet" else {"MainThread"}
        main_ns = sum(watch.cpu[name] for name in main)
        assert main_ns == pytest.approx(sum(said["main_ns"] for said in told), rel=0.02)
        threads = sum(said["tids"] for said in told)
        if library == "eventlet":
            assert watch.started == threads
            assert {*watch.cpu} - {UNATTRIBUTED, "python"} == main | {"tpool_thread_N"}
        else:
            # its pool lets threads go, and has the kernel's names, which greenlets can have set (3.14+)
            assert watch.started <= threads + 10 * len(loads)  # not the 120 greenlets
    finally:
        for load in loads:
            load.close()
        watch.close()
