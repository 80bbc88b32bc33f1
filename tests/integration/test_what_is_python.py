"""Python is what has a Python in it, whatever its program is called: real programs, seen by a daemon."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests import testbed
from tests.harness import until
from tests.serving import ready
from tests.stopwatch import Stopwatch
from tests.testbed import Interpreter
from threadwatch.config.defaults import DEFAULT_CONFIG
from threadwatch.errors import ReadError
from threadwatch.model.view import ProcessView
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS

LOADER = {"x86_64": "/lib64/ld-linux-x86-64.so.2", "aarch64": "/lib/ld-linux-aarch64.so.1"}
SCRIPT = "import time\nprint('ready', flush=True)\ntime.sleep(600)\n"
EMBEDDING = r"""
#include <Python.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    if (argc > 1) {
        Py_Initialize();
        PyRun_SimpleString(argv[1]);
    }
    (void)!write(1, "ready\n", 6);
    pause();
}
"""
"""A program with a libpython, which it uses if it is given code."""


def shared() -> list[Interpreter]:
    """Interpreters on this machine that have a libpython to link with."""
    found = [i for i in testbed.interpreters() if i.root == Path("/")]
    return [i for i in found if config(i, "PY_ENABLE_SHARED") == "1"]


def config(interpreter: Interpreter, name: str) -> str:
    """Return how the interpreter was built."""
    code = f"import sysconfig; print(sysconfig.get_config_var({name!r}) or '')"
    done = subprocess.run(
        [*interpreter.command, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def program_of(interpreter: Interpreter) -> Path:
    """Return the interpreter's own file."""
    code = "import os; print(os.readlink('/proc/self/exe'))"
    done = subprocess.run(
        [*interpreter.command, "-c", code], capture_output=True, text=True, check=True
    )
    return Path(done.stdout.strip())


def embed(interpreter: Interpreter, path: Path) -> None:
    """Compile :data:`EMBEDDING`."""
    library = config(interpreter, "LIBDIR")
    name = config(interpreter, "LDLIBRARY").removeprefix("lib").removesuffix(".so")
    source = path.with_suffix(".c")
    source.write_text(EMBEDDING)
    subprocess.run(
        [
            *("gcc", "-w", "-o", str(path), str(source), f"-I{config(interpreter, 'INCLUDEPY')}"),
            *(f"-L{library}", f"-l{name}", f"-Wl,-rpath,{library}"),
        ],
        check=True,
    )


@contextlib.contextmanager
def running(*command: str, **environment: str) -> Iterator[int]:
    """Yield the PID of a program that has said that it is ready."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "THREADWATCH"))}
    with ready(*command, env={**environ, **environment}) as process:
        yield process.pid


def shown() -> dict[int, ProcessView]:
    """Return the processes that a daemon watches that starts now."""
    with closing(Poller(ProcFS(), DEFAULT_CONFIG, report=lambda _error: None)) as poller:
        return {process.key.pid: process for process in poller.poll().processes}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Return an application that does not publish."""
    path = tmp_path / "shop.py"
    path.write_text(SCRIPT)
    return path


def test_interpreters_under_other_names(script: Path, tmp_path: Path) -> None:
    """A Python that was copied to another name is watched, whether it has a libpython or all in one file."""
    interpreters = [i for i in testbed.interpreters() if i.root == Path("/")]
    with ExitStack() as stack:
        pids = {}
        for interpreter in interpreters:
            path = tmp_path / f"shopd-{interpreter}"
            shutil.copy(program_of(interpreter), path)
            home = config(interpreter, "prefix")
            pids[interpreter] = stack.enter_context(
                running(str(path), str(script), PYTHONHOME=home, LD_LIBRARY_PATH=f"{home}/lib")
            )
        system = tmp_path / "platform-python3.11"
        shutil.copy("/usr/bin/python3", system)
        red_hat = stack.enter_context(running(str(system), str(script), PYTHONHOME="/usr"))
        renamed = tmp_path / "shopd"
        shutil.copy("/usr/bin/python3", renamed)
        static = stack.enter_context(running(str(renamed), str(script), PYTHONHOME="/usr"))
        found = shown()
    assert {str(i): found[pid].group for i, pid in pids.items() if pid in found} == {
        str(i): f"shopd-{i}" for i in interpreters
    }
    assert found[static].group == "shopd"
    assert found[red_hat].group == "shop"


def test_a_python_that_the_loader_starts(script: Path) -> None:
    """A Python that the dynamic loader starts has the application's group, not the loader's."""
    loader = LOADER[platform.machine()]
    python = str(Path("/usr/bin/python3").resolve())
    with (
        running(loader, python, str(script)) as plain,
        running(loader, "--library-path", "/usr/lib", python, "-u", str(script)) as options,
        running(loader, "/bin/sh", "-c", "echo ready; read line") as shell,
    ):
        found = shown()
        assert found[plain].group == found[options].group == "shop"
        assert shell not in found


def test_programs_with_a_libpython(tmp_path: Path) -> None:
    """A program that runs its libpython is watched; one that is merely linked with it is not."""
    users, editors = {}, {}
    with ExitStack() as stack:
        for interpreter in shared():
            program, editor = tmp_path / f"shop-{interpreter}", tmp_path / f"editor-{interpreter}"
            embed(interpreter, program)
            shutil.copy(program, editor)
            home = config(interpreter, "prefix")
            run = running(str(program), "import threading", PYTHONHOME=home)
            users[program.name] = stack.enter_context(run)
            editors[editor.name] = stack.enter_context(running(str(editor)))
        found = shown()
    assert len(users) >= 3
    assert {name: found[pid].group for name, pid in users.items() if pid in found} == {
        name: name for name in users
    }
    assert not set(editors.values()) & found.keys()


def test_a_program_whose_file_does_not_answer(tmp_path: Path, script: Path) -> None:
    """Where a program's file system hangs, polls go on, and what is called Python is watched all the same."""
    mount = tmp_path / "mount"
    mount.mkdir()
    server = subprocess.Popen(
        ["bindfs", "-f", "-o", "attr_timeout=0,entry_timeout=0", "/usr/bin", str(mount)]
    )
    try:
        until(mount.is_mount, "the file system")
        with (
            running(str(mount / "mawk"), 'BEGIN { print "ready"; fflush(); getline }') as other,
            running(sys.executable, str(script)) as python,
        ):
            errors: list[ReadError] = []
            server.send_signal(signal.SIGSTOP)
            with closing(Poller(ProcFS(), DEFAULT_CONFIG, report=errors.append)) as poller:
                for _ in range(5):
                    watch = Stopwatch()
                    found = {process.key.pid for process in poller.poll().processes}
                    assert watch.seconds() < 10
                    assert python in found
                    assert other not in found
                server.send_signal(signal.SIGCONT)
            assert {(e.source, e.reason) for e in errors} >= {("cmdline", "timeout")}
    finally:
        server.kill()
        server.wait()
        subprocess.run(["umount", "--lazy", str(mount)], check=True)
