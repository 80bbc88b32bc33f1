"""``threadwatch stack`` says which code real threads run, by a real py-spy, or why it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness import DEADLINE, await_rest, environ, threadwatch
from tests.testbed import CHECKOUT, Interpreter, require

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
PROGRAM = """\
import os, sys, threading
lock = threading.Lock()
lock.acquire()
ready = threading.Barrier(3)
def take():
    ready.wait()
    lock.acquire()
for name in ("pool-1", "pool-2"):
    threading.Thread(target=take, name=name, daemon=True).start()
ready.wait()
print(os.getpid(), flush=True)
sys.stdin.read()
"""


@contextmanager
def _program(
    interpreter: Interpreter, directory: Path, prefix: Sequence[str] = ()
) -> Iterator[int]:
    """Run the program, in the PID namespace that ``prefix`` makes, and yield its PID as we see it."""
    script = directory / "shop.py"
    script.write_text(PROGRAM)
    with subprocess.Popen(
        [*prefix, *interpreter.command, str(script)],
        env=environ("plain", {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        pid = int(process.stdout.readline())
        if prefix:
            children = f"/proc/{process.pid}/task/{process.pid}/children"
            pid = int(Path(children).read_text())
        await_rest(pid)  # a thread that is behind the barrier need not wait for the lock by now
        yield pid
        process.stdin.close()


def _stack(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        threadwatch("stack", *map(str, arguments)),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def test_stacks_of_threads_by_name(interpreter: Interpreter, tmp_path: Path) -> None:
    """Each thread has its name, what it waits for, and the function and line that it is in."""
    with _program(interpreter, tmp_path) as pid:
        done = _stack("--json", pid, "pool-*")
        text = _stack(pid).stdout
    assert (done.returncode, done.stderr) == (0, "")
    threads = json.loads(done.stdout)
    assert [(one["name"], one["state"]) for one in threads] == [
        ("pool-1", "lock"),
        ("pool-2", "lock"),
    ]
    for one in threads:
        assert one["frames"][0] == {
            "function": "take",
            "file": str(tmp_path / "shop.py"),
            "line": 7,
        }
    assert text.startswith(f"shop   PID {pid} · CPython ")
    assert f"{pid}  MainThread  pipe" in text
    assert f"{tmp_path}/shop.py:7" in text


def test_stacks_in_another_pid_namespace(interpreter: Interpreter, tmp_path: Path) -> None:
    """Each thread of a process in a container has its own stack, although py-spy knows it by another TID."""
    apart = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    with _program(interpreter, tmp_path, apart) as pid:
        done = _stack("--json", pid)
    assert (done.returncode, done.stderr) == (0, "")
    functions = {
        one["name"]: [frame["function"] for frame in one["frames"]]
        for one in json.loads(done.stdout)
    }
    assert functions["MainThread"] == ["<module>"]
    assert functions["pool-1"][0] == functions["pool-2"][0] == "take"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("{pid}", "nix"), "has no thread 'nix'; there are: MainThread, pool-1, pool-2"),
        (("4194303",), "there is no process 4194303, or it cannot be seen"),
        (("{sleep}",), ": Failed to find python version from target process"),
    ],
    ids=["thread", "process", "no-python"],
)
def test_one_line_says_why_not(arguments: tuple[str, ...], line: str, tmp_path: Path) -> None:
    """A thread or process that there is not, and one without Python, are one line and exit code 1."""
    with (
        _program(require(*sys.version_info[:2]), tmp_path) as pid,
        subprocess.Popen(["sleep", str(DEADLINE)]) as sleep,
    ):
        try:
            await_rest(sleep.pid)
            done = _stack(*(one.format(pid=pid, sleep=sleep.pid) for one in arguments))
        finally:
            sleep.kill()
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert line in done.stderr


def test_without_py_spy_it_says_what_to_type() -> None:
    """Where py-spy is neither beside Python nor on the PATH, one line says how it is installed."""
    without = (
        "import sys; from threadwatch.commands.main import main; sys.executable = '/nowhere/python'\n"
        f"sys.exit(main(['stack', '{os.getpid()}']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", without],
        cwd=CHECKOUT,
        env={**os.environ, "PATH": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert "threadwatch: py-spy is not installed: pip install py-spy" in done.stderr


def test_without_permission_it_says_what_is_needed() -> None:
    """A process of another user is refused in one line that says what would help."""
    done = subprocess.run(
        [*NOBODY, *threadwatch("stack", str(os.getpid()))],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert f"process {os.getpid()} may not be read: run as root" in done.stderr
