"""The mapping of kernel threads to Python names, against what the processes themselves say.

Each scenario is a program of ``tests/targets``; it runs on all interpreters in both modes side by side,
and ``threadwatch ps`` has to agree with it at each of its steps. ``run`` starts it by ``threadwatch run``
on an interpreter that knows nothing of threadwatch; in ``publish`` it calls ``publish()`` itself.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests import harness, programs, testbed
from tests.harness import until
from tests.integration import comparison
from tests.integration.conftest import Fleet
from tests.integration.rights import as_nobody, as_root, in_user_namespace
from tests.testbed import CHECKOUT, Interpreter

INJECT = str(CHECKOUT / "threadwatch/inject")


@dataclass(frozen=True)
class Scenario:
    """A target program and where it runs."""

    program: str
    arguments: tuple[str, ...] = ()
    modes: tuple[str, ...] = ("publish", "run")
    versions: tuple[tuple[int, int], ...] = testbed.MATRIX
    options: tuple[str, ...] = harness.STRICT
    needs_mode: bool = False
    """Whether the program is told the mode as its last argument."""

    @property
    def name(self) -> str:
        """Return what it is called in the matrix."""
        return "-".join([self.program.removesuffix(".py"), *self.arguments])


BARE = ("-X", "utf8")
"""Warnings are no errors: threading is not imported before the program does it."""
STAY = ("MainThread", "newborn", "breed", "multiply")

SCENARIOS = (
    Scenario("threads.py"),
    Scenario("names.py"),
    Scenario("executors.py"),
    Scenario("natives.py"),
    Scenario("forks.py"),
    Scenario("exec.py"),
    Scenario("workers.py", ("fork",), needs_mode=True),
    Scenario("workers.py", ("spawn",), needs_mode=True),
    Scenario("workers.py", ("forkserver",), needs_mode=True),
    Scenario("lifecycle.py", modes=("publish",)),
    Scenario("tools.py", modes=("publish",)),
    Scenario("adversity.py", ("closed",)),
    Scenario("daemonized.py", ("by-hand",)),
    Scenario("many_files.py", modes=("publish",), versions=((3, 9), (3, 12), (3, 13))),
    Scenario("twice.py", ("unloaded",), modes=("publish",)),
    Scenario("twice.py", ("looked-for",), options=BARE),
    Scenario("twice.py", ("old-finder",), options=BARE),
    Scenario("twice.py", ("lazy",), versions=testbed.MATRIX[:4], options=BARE),
    Scenario("interpreters.py", versions=((3, 13), (3, 14), (3, 15)), needs_mode=True),
    Scenario("many.py", ("500", "1000"), modes=("publish",)),
    Scenario("many.py", ("5000", "10000"), modes=("run",), versions=((3, 9), (3, 14))),
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: str(scenario.name))
def test_names(scenario: Scenario, fleet: Fleet) -> None:
    """Every thread is shown with its own name, in every situation that the program creates."""
    comparison.drive(
        fleet.start(
            testbed.require(*version),
            scenario.program,
            *(*scenario.arguments, *([mode] if scenario.needs_mode else [])),
            mode=mode,
            options=scenario.options,
        )
        for mode in scenario.modes
        for version in scenario.versions
    )


@pytest.mark.parametrize("order", ["first", "last"])
def test_gevent(order: str, fleet: Fleet, packages: Callable[[Interpreter, str], Path]) -> None:
    """Greenlets that pass for threads do not take the name of the thread that runs them."""
    interpreters = testbed.interpreters()
    with ThreadPoolExecutor() as pool:  # what has to be downloaded is so side by side
        gevents = list(pool.map(packages, interpreters, ["gevent"] * len(interpreters)))
    comparison.drive(
        fleet.start(
            interpreter,
            *("green.py", order),
            mode=mode,
            environment={"PYTHONPATH": ":".join([str(gevent), *path])},
            options=(),
        )
        for mode, path in (("publish", [str(CHECKOUT)]), ("run", []))
        for interpreter, gevent in zip(interpreters, gevents, strict=True)
    )


def test_python_daemon(fleet: Fleet) -> None:
    """A process that python-daemon has made a daemon, its files closed, is known again by its next event."""
    environments = [
        (i, programs.environment(i, "python-daemon==3.1.2")) for i in testbed.interpreters()[::3]
    ]
    comparison.drive(
        fleet.start(
            replace(interpreter, command=programs.python(interpreter, directory)),
            *("daemonized.py", "python-daemon"),
            mode=mode,
            options=(),
        )
        for interpreter, directory in environments
        for mode in ("publish", "run")
    )


def test_never_a_wrong_name(fleet: Fleet) -> None:
    """In a storm of threads and forks, followed as a daemon does, no thread has the name of another."""
    targets = [fleet.start(i, "churn.py", mode="run") for i in testbed.interpreters()]
    pids = [target.process.pid for target in targets]
    for target in targets:
        target.next_step()
    seen = 0
    with closing(comparison.Daemon(children=True)) as daemon:
        deadline = time.monotonic() + 5 * harness.DEADLINE
        while seen < 300:
            assert time.monotonic() < deadline, "there was no storm"
            for pid, threads in daemon.shown(pids).items():
                for thread in threads.values():
                    if thread.source == "published" and thread.name not in STAY:
                        kind, _, number = thread.name.partition(" ")
                        assert kind in ("tid", "child")
                        assert int(number) == {"tid": thread.tid, "child": pid}[kind], thread
                        seen += 1
    for target in targets:
        target.go()
        assert target.next_step() is None
        assert target.stderr() == ""


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_hostile_names_in_any_terminal(
    encoding: str, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``ps`` for people prints a line for each thread, whatever the name and the terminal's encoding."""
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    target = fleet.start(testbed.require(3, 12), "names.py", mode="run")
    step = target.next_step()
    assert step is not None
    done = subprocess.run(
        harness.threadwatch("ps", "--interval=0", str(target.process.pid)),
        cwd=CHECKOUT,
        capture_output=True,
        timeout=harness.DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode(encoding)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    shown = [int(line.split()[0]) for line in text.split("\n") if re.match(r" *\d+ ", line)]
    assert sorted(shown) == sorted(thread.tid for thread in step.processes[0].threads)


def _in_pid_namespace(interpreter: Interpreter, *, own_proc: bool) -> tuple[str, ...]:
    """Return the command that runs it as PID 1 of a new PID namespace, with its /proc or the host's."""
    unshare = ("unshare", "--pid", "--fork", "--kill-child")
    return (*unshare, f"--mount-proc={interpreter.root / 'proc'}") if own_proc else unshare


@pytest.mark.parametrize(
    ("program", "own_proc"),
    [("threads.py", True), ("forks.py", False)],
    ids=["own-proc", "outer-proc"],
)
def test_pid_namespace(program: str, own_proc: bool, fleet: Fleet) -> None:  # noqa: FBT001  # a parameter
    """Threads whose TIDs are others inside their PID namespace have their names outside."""
    comparison.drive(
        fleet.start(
            interpreter,
            program,
            mode="run" if own_proc else "publish",
            prefix=_in_pid_namespace(interpreter, own_proc=own_proc),
        )
        for interpreter in testbed.interpreters()
    )


def test_tid_reuse(fleet: Fleet) -> None:
    """A thread never shows the name of the one that had its TID before."""
    comparison.drive(
        fleet.start(interpreter, "reuse.py", prefix=_in_pid_namespace(interpreter, own_proc=True))
        for interpreter in testbed.interpreters()
    )


def test_a_very_long_command_line(fleet: Fleet) -> None:
    """A job whose arguments are thousands of files, more than 1 MiB, is watched as any other."""
    files = [
        f"/srv/lake/events/2026-11-27/part-{number:08}.snappy.parquet" for number in range(20_000)
    ]
    comparison.drive(
        fleet.start(interpreter, "threads.py", *files) for interpreter in testbed.interpreters()
    )


@pytest.mark.parametrize("order", ["publish-first", "files-first"])
def test_many_open_files(order: str, fleet: Fleet) -> None:
    """The table of a process is found behind 10,000 other files, and its child's."""
    comparison.drive(
        fleet.start(interpreter, "files.py", "10000", order)
        for interpreter in testbed.interpreters()
    )


@pytest.mark.parametrize(("program", "offset"), [("threads.py", "86400"), ("forks.py", "-60")])
def test_time_namespace(program: str, offset: str, fleet: Fleet) -> None:
    """Where a time namespace has set the clocks otherwise (LXC, runc's timeOffsets), names are right."""
    prefix = ("unshare", "--time", "--boottime", offset, "--fork", "--kill-child")
    comparison.drive(
        fleet.start(interpreter, program, prefix=prefix) for interpreter in testbed.interpreters()
    )


@pytest.mark.parametrize("scene", ["at_first", "afterwards", "unseen", "worker", "effective"])
@pytest.mark.parametrize("where", [as_root, in_user_namespace], ids=["host", "user-namespace"])
def test_becoming_another_user(
    scene: str, where: Callable[[Interpreter], Interpreter], fleet: Fleet
) -> None:
    """Names stay, and new ones are found, of a service that gives up root, before or after it was seen."""
    comparison.drive(
        fleet.start(where(interpreter), "users.py", scene) for interpreter in testbed.interpreters()
    )


def _daemon_as_nobody() -> list[str]:
    """Return the command of threadwatch, run by another user."""
    this = Interpreter(
        sys.version_info[:2], "", (str(Path(sys.base_prefix) / "bin/python3"),), Path("/")
    )
    *before, executable = as_nobody(this).command
    path = f"PYTHONPATH={sysconfig.get_path('purelib')}"
    return [*before, path, executable, "-m", "threadwatch"]


@pytest.mark.parametrize(
    ("daemon", "target", "source"),
    [
        ("root", "nobody", "published"),
        ("nobody", "nobody", "published"),
        ("nobody", "root", "comm"),
    ],
)
def test_users(daemon: str, target: str, source: str, fleet: Fleet) -> None:
    """Names of one's own processes, for root of all processes; of others' the kernel's names."""
    comparison.drive(
        (
            fleet.start(
                as_nobody(interpreter) if target == "nobody" else interpreter,
                "adversity.py",
                *("denied", source),
            )
            for interpreter in testbed.interpreters()
        ),
        _daemon_as_nobody() if daemon == "nobody" else (),
    )


def test_gunicorn_in_a_user_namespace() -> None:
    """Workers of a real gunicorn, which give up their container's root after the fork, have names."""
    interpreters = [
        testbed.require(*version) for version in ((3, 14), (3, 15))
    ]  # that all can read
    with ExitStack() as stack:
        masters = [stack.enter_context(_gunicorn(interpreter)) for interpreter in interpreters]
        pids = {}
        for master in masters:

            def has_become(master: int = master) -> bool:
                pids[master] = [master, *testbed.descendants(master)]
                users = [os.stat(f"/proc/{pid}").st_uid for pid in pids[master]]
                return users == [100000, 165534, 165534]

            until(has_become, "two workers of another user")
        shown = comparison.shown_by_ps(pid for found in pids.values() for pid in found)
    for master, found in pids.items():
        names = [shown[pid][pid] for pid in found]
        assert [(one.name, one.source) for one in names] == [("MainThread", "published")] * 3, (
            master
        )


@contextmanager
def _gunicorn(interpreter: Interpreter) -> Iterator[int]:
    """Run a gunicorn with two workers of another user in a user namespace; yield its master's PID."""
    environment = programs.environment(interpreter, "gunicorn==23.0.0")
    python = replace(interpreter, command=programs.python(interpreter, environment))
    options = "--user=65534 --group=65534 --workers=2 --bind=127.0.0.1:0 --log-level=critical"
    command = in_user_namespace(python).command
    process = subprocess.Popen(
        [*command, "-m", "gunicorn", *options.split(), "wsgiref.simple_server:demo_app"],
        cwd=CHECKOUT,
        env={**harness.environ("publish", {}), "THREADWATCH": "1", "PYTHONPATH": INJECT},
        start_new_session=True,
    )
    try:
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
