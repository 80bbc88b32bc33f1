"""What a publisher must not do to its application, whatever goes wrong."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests import harness, testbed
from tests.harness import TARGETS
from tests.integration import comparison
from tests.integration.conftest import Fleet
from tests.testbed import Interpreter
from threadwatch.names.slots import parse_slots
from threadwatch.publisher import layout

HIDE_PROC = 'mount -t tmpfs none "$1"/proc && shift && exec "$@"'


def _denied(interpreter: Interpreter, call: str, error: str) -> Interpreter:
    """Return the interpreter, started by itself without the right to a system call."""
    executable = interpreter.command[-1]
    deny = (str(TARGETS / "deny.py"), call, error, executable)
    return replace(interpreter, command=(*interpreter.command, *deny))


@pytest.mark.parametrize(
    ("call", "error"),
    [("memfd_create", "EPERM"), ("memfd_create", "ENOSYS"), ("ftruncate", "EPERM")],
)
def test_system_call_denied(call: str, error: str, fleet: Fleet) -> None:
    """Where seccomp forbids what the table needs, the program runs as ever, without names."""
    comparison.drive(
        fleet.start(_denied(interpreter, call, error), "adversity.py", "denied", "comm", mode=mode)
        for interpreter in testbed.interpreters()
        for mode in ("publish", "run")
    )


@pytest.mark.parametrize(
    "command",
    [
        ("unshare", "--mount", "sh", "-c", HIDE_PROC, "sh", "ROOT"),
        ("prlimit", "--fsize=4096"),
    ],
    ids=["no-proc", "file-size-limit"],
)
def test_system_withholds(command: Sequence[str], fleet: Fleet) -> None:
    """Without /proc, without files of any size: names or none, never a fault."""
    comparison.drive(
        fleet.start(
            interpreter,
            *("adversity.py", "denied", "either"),
            mode=mode,
            prefix=[str(interpreter.root) if word == "ROOT" else word for word in command],
        )
        for interpreter in testbed.interpreters()
        for mode in ("publish", "run")
    )


@pytest.mark.parametrize("imported", [[], ["imported"]], ids=["", "imported"])
@pytest.mark.parametrize("debug", ["0", "1"])
def test_no_descriptors_left(debug: str, imported: list[str], fleet: Fleet) -> None:
    """Without a free descriptor the publisher is quiet; asked to say why, it says it once."""
    targets = [
        fleet.start(
            interpreter,
            *("adversity.py", "nofile", *imported),
            environment={"THREADWATCH_DEBUG": debug},
            stderr_lines=int(debug),
        )
        for interpreter in testbed.interpreters()
    ]
    comparison.drive(targets)


@pytest.mark.parametrize("debug", ["0", "1"])
def test_says_why_once(debug: str, fleet: Fleet) -> None:
    """THREADWATCH_DEBUG=1 gives one line on stderr that says why there are no names; else none."""
    targets = [
        fleet.start(
            _denied(interpreter, "memfd_create", "EPERM"),
            *("adversity.py", "quiet"),
            mode=mode,
            environment={"THREADWATCH_DEBUG": debug},
            stderr_lines=int(debug),
        )
        for interpreter in testbed.interpreters()
        for mode in ("publish", "run")
    ]
    comparison.drive(targets)
    for target in targets:
        assert debug == "0" or "threadwatch" in target.stderr()


@pytest.mark.parametrize("options", [(), harness.STRICT], ids=["", "strict"])
def test_same_behaviour(interpreter: Interpreter, options: Sequence[str], tmp_path: Path) -> None:
    """A program's output, to the byte, and its exit are the same with a publisher and without."""
    modes = ("plain", "publish", "run")
    running = {}
    for mode in modes:
        with (tmp_path / mode).open("wb") as output:
            running[mode] = subprocess.Popen(
                [
                    *(harness.threadwatch("run", "--") if mode == "run" else ()),
                    *(*interpreter.command, *options, str(TARGETS / "behaviour.py")),
                ],
                cwd=testbed.CHECKOUT,
                env=harness.environ(mode, {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
    try:
        ends = {mode: process.wait(harness.DEADLINE) for mode, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    outputs = {mode: (tmp_path / mode).read_text() for mode in modes}
    assert "outlives main" in outputs["plain"], outputs["plain"]
    for mode in ("publish", "run"):
        assert outputs[mode] == outputs["plain"]
        assert ends[mode] == ends["plain"] == 1


def test_exits_amid_daemon_threads(interpreter: Interpreter) -> None:
    """A program ends as it would without us while daemon threads are renamed, end and are born."""
    done = subprocess.run(
        [*interpreter.command, *harness.STRICT, str(TARGETS / "exits.py"), "16"],
        cwd=testbed.CHECKOUT,
        env=harness.environ("publish", {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=harness.DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{0: 16} \n", "")


def test_no_end_by_finalization(interpreter: Interpreter, fleet: Fleet) -> None:
    """An interpreter that goes says nothing of the threads that it leaves; ends before that stay told."""
    target = fleet.start(interpreter, "exits.py", "once")
    step = target.next_step()
    assert step is not None
    (process,) = step.processes
    with _table(process.pid).open("rb") as table:  # it is there as long as somebody has it open
        target.go()
        assert target.next_step() is None
        table.seek(layout.HEADER_SIZE)
        found, torn = parse_slots(table.read(layout.CHUNK * layout.SLOT_SIZE))
    states = {slot.name: (slot.state, slot.cpu_ns is not None) for _, slot in found}
    stay = {f"stays-{index}": (layout.LIVE, False) for index in range(4)}
    assert torn == 0
    assert states == {"MainThread": (layout.LIVE, False), "ended": (layout.ENDED, True), **stay}


def _table(pid: int) -> Path:
    """Return the one table that a process has."""
    files = Path(f"/proc/{pid}/fd").iterdir()
    (table,) = (file for file in files if f"/memfd:{layout.NAME} " in os.readlink(file))
    return table


def test_pypy_is_left_alone() -> None:
    """On PyPy nothing is published, by neither way, and a program runs as it would without us."""
    program = (
        "import os, sys, threading\n"
        "print([os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd')"
        " if os.path.lexists(f'/proc/self/fd/{n}') and 'threadwatch' in os.readlink(f'/proc/self/fd/{n}')])\n"
        "thread = threading.Thread(target=lambda: print(threading.current_thread().name), name='one')\n"
        "thread.start(); thread.join()\n"
        "print(threading.Thread._set_native_id.__globals__['__name__'])\n"
    )
    publish = "import threadwatch; assert threadwatch.publish() is False\n"
    for debug in ("0", "1"):
        for mode, run, source in (
            ("run", harness.threadwatch("run", "--"), program),
            ("publish", [], publish + program),
        ):
            done = subprocess.run(
                [*run, "/usr/bin/pypy3", "-c", source],
                cwd=testbed.CHECKOUT,
                env=harness.environ(mode, {"THREADWATCH_DEBUG": debug}),
                capture_output=True,
                text=True,
                timeout=harness.DEADLINE,
                check=False,
            )
            assert (done.returncode, done.stdout) == (0, "[]\none\nthreading\n"), done
            assert ("pypy is not supported" in done.stderr) is (debug == "1")
