"""Names read from the memory of real processes are those that the processes know, or none."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import harness, testbed, webservers
from tests.harness import DEADLINE, environ, threadwatch
from tests.names_outside import Outside, Storm, as_kept, started, weather
from tests.programs import environment, python
from tests.testbed import Interpreter
from threadwatch.config.defaults import DEFAULT_CONFIG
from threadwatch.errors import Gone, ReadError
from threadwatch.names.memory.following import WAY_EVERY
from threadwatch.names.memory.gils import find_gils
from threadwatch.names.memory.snapshot import Snapshot
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS


def until(read: Callable[[], dict[int, str]], expected: dict[int, str]) -> None:
    """Wait until that is read."""
    deadline = time.monotonic() + DEADLINE
    while (got := read()) != expected:
        assert time.monotonic() < deadline, (got, expected)


def test_threads_of_every_kind(interpreter: Interpreter) -> None:
    """Each thread that threading knows has its own name, whatever it is called and however that is kept."""
    with started(interpreter) as target:
        outside = Outside(target.pid)
        until(outside.names, target.kept_names())
        target.ask("kinds")
        expected = target.kept_names()
        assert len(expected) > 25
        until(outside.names, expected)
        target.ask("rename again-é")
        renamed = target.kept_names()
        assert renamed != expected
        until(outside.names, renamed)
        target.ask("many 1000")
        until(outside.names, target.kept_names())
        outside.close()


def test_new_names_where_nothing_else_happens(interpreter: Interpreter) -> None:
    """A process in which no thread starts or ends is looked at by turns, and misses no name for long."""
    with started(interpreter) as target:
        outside = Outside(target.pid)
        target.ask("many 5")
        until(outside.names, target.kept_names())
        renamed = target.kept_names()
        for prefix in ("again", "odd", "even"):
            for _ in range(2 * WAY_EVERY + len(prefix)):
                outside.names()
            target.ask(f"rename {prefix}")
            renamed = target.kept_names()
            assert renamed in [outside.names() for _ in range(2)]
        target.ask("move elsewhere")
        moved = target.kept_names()
        assert moved != renamed
        assert moved in [outside.names() for _ in range(2)]
        outside.close()


@pytest.mark.parametrize("how", ["fork", "fork_in_thread"])
def test_forked_children(interpreter: Interpreter, how: str, tmp_path: Path) -> None:
    """A child by fork has its own threads' names, and its main thread's, even if another thread forked."""
    with started(interpreter) as target:
        child = target.ask(f"{how} {tmp_path}/child")
        try:
            harness.until((tmp_path / "child").exists, "the child's report")
            outside = Outside(child)
            until(outside.names, as_kept(json.loads((tmp_path / "child").read_text())))
            outside.close()
        finally:
            os.kill(child, signal.SIGKILL)


def test_subinterpreters(interpreter: Interpreter) -> None:
    """Threads of a subinterpreter have their names, too."""
    with started(interpreter) as target:
        target.ask("subinterpreter")
        outside = Outside(target.pid)
        inside = {tid: name for tid, name in outside.names().items() if name == "inside"}
        deadline = time.monotonic() + DEADLINE
        while not inside:
            assert time.monotonic() < deadline
            inside = {tid: name for tid, name in outside.names().items() if name == "inside"}
        assert outside.names().items() >= target.kept_names().items()
        outside.close()


def test_another_program(interpreter: Interpreter) -> None:
    """What was read of a program that has ended by exec is not taken for the new one's: reading says Gone."""
    with started(interpreter, "first") as target:
        outside = Outside(target.pid)
        until(outside.names, target.kept_names())
        target.ask("replace_program second")
        with pytest.raises(Gone):
            outside.read()
        outside.close()
        outside = Outside(target.pid)
        until(outside.names, target.kept_names())
        assert sorted(outside.names().values()) == ["MainThread", "generation-second"]
        outside.close()


def test_from_the_first_instant_to_the_last(interpreter: Interpreter) -> None:
    """A process that starts or ends gives its names or an error of the project's, at any moment."""
    code = "import threading, time; threading.Thread(target=time.sleep, args=(0.05,), name='one').start()"
    names = set()
    for _ in range(3):
        process = subprocess.Popen(
            [*interpreter.command, "-I", "-c", code], env=environ("plain", {})
        )
        while process.poll() is None:
            with (
                contextlib.suppress(Gone, ReadError),
                contextlib.closing(Outside(process.pid)) as outside,
            ):
                while True:
                    names |= set(outside.names().items()) - {(process.pid, "MainThread")}
        assert process.returncode == 0
    assert {name for _, name in names} <= {"one"}


def test_a_debug_build() -> None:
    """Debian's debug build has its threads' names, and its GIL is where the publisher finds it."""
    interpreter = testbed.debug_build()
    with started(interpreter) as target:
        target.ask("kinds")
        outside = Outside(target.pid)
        until(outside.names, target.kept_names())
        target.ask("rename again-é")
        until(outside.names, target.kept_names())
        outside.close()
    test_gils_are_where_the_publisher_finds_them(interpreter)


def test_gils_are_where_the_publisher_finds_them(interpreter: Interpreter) -> None:
    """The GIL's address, its size and the offsets in a thread state are those that a table has."""
    code = (
        "import sys, json, _thread; sys.path.insert(0, sys.argv[1]);"
        " from threadwatch.publisher import gil;"
        " found = gil.find(_thread.get_ident(), _thread.get_native_id());"
        " print(json.dumps(found), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [*interpreter.command, "-I", "-c", code, str(testbed.CHECKOUT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        expected = json.loads(process.stdout.readline())
        outside = Outside(process.pid)
        (found,) = find_gils(Snapshot(outside.memory, 64), outside.following.python)
        assert [found.address, found.size, found.ident_offset, found.native_offset] == expected
        outside.close()


@pytest.mark.parametrize("version", [(3, 9), (3, 12)], ids=str)
def test_greenlets_are_no_threads(version: tuple[int, int]) -> None:
    """Where gevent makes greenlets of threads, the thread that runs them is called as the main one is."""
    interpreter = testbed.require(*version)
    directory = environment(interpreter, "gevent")
    code = (
        "from gevent import monkey; monkey.patch_all(); import threading, time\n"
        "for n in range(20):\n"
        " threading.Thread(target=time.sleep, args=(600,), name='green', daemon=True).start()\n"
        "time.sleep(0.1); print(flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [*python(interpreter, directory), "-c", code], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            outside = Outside(process.pid)
            until(outside.names, {process.pid: "MainThread"})
            outside.close()
        finally:
            process.kill()


def test_storm() -> None:
    """Of threads that are renamed, start and end all the time, no name that is told is wrong."""
    with contextlib.ExitStack() as stack:
        storms = [
            Storm(stack.enter_context(started(testbed.require(*version))))
            for version in testbed.MATRIX
        ]
        weather(storms, pairs=1000, seconds=15)
        for storm in storms:
            assert storm.wrong() == [], str(storm)
            assert storm.pairs >= 100, str(storm)


def ps(tmp_path: Path, pid: int, config: str = "{}\n") -> dict[str, Any]:
    """Return what ``threadwatch ps`` says of a process."""
    file = tmp_path / "threadwatch.yml"
    file.write_text(config)
    command = threadwatch("ps", "--json", "--config.file", str(file), str(pid))
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * DEADLINE, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    (process,) = [one for one in found if one["pid"] == pid]
    return process


def doctor(tmp_path: Path, pid: int) -> dict[str, Any]:
    """Return what ``threadwatch doctor`` says of a process, by the configuration of the last :func:`ps`."""
    command = threadwatch(
        "doctor", "--json", "--config.file", f"{tmp_path}/threadwatch.yml", str(pid)
    )
    done = subprocess.run(command, capture_output=True, timeout=2 * DEADLINE, check=False)
    found: list[dict[str, Any]] = json.loads(done.stdout)["processes"]
    (process,) = [one for one in found if one["pid"] == pid]
    return process


def test_ps_of_a_process_that_does_not_publish(interpreter: Interpreter, tmp_path: Path) -> None:
    """It has its threads' names and its Python by its memory; where that is not wanted, the kernel's."""
    with started(interpreter) as target:
        target.ask("kinds")
        expected = target.kept_names()
        process = ps(tmp_path, target.pid)
        names = {t["tid"]: t["name"] for t in process["threads"] if t["source"] == "memory"}
        assert names == expected
        assert process["source"] == "memory"
        assert not process["published"]
        assert (process["version"], process["gil"]) == (interpreter.release, True)
        process = ps(tmp_path, target.pid, "names: {from_memory: false}\n")
        assert {t["source"] for t in process["threads"]} == {process["source"]} == {"comm"}


def test_who_holds_the_gil(interpreter: Interpreter, tmp_path: Path) -> None:
    """Of threads that compute, those hold the GIL and wait for it that do, and no others."""
    with started(interpreter) as target:
        target.ask("compute 2")
        process = ps(tmp_path, target.pid)
        held = {t["name"]: t["gil_held_percent"] for t in process["threads"]}
        deadline = time.monotonic() + DEADLINE
        while not all(held[f"computes-{n}"] for n in range(2)):
            assert time.monotonic() < deadline, held
            process = ps(tmp_path, target.pid)
            held = {t["name"]: t["gil_held_percent"] for t in process["threads"]}
        assert not held["MainThread"]


def test_a_table_is_better(interpreter: Interpreter) -> None:
    """A process that begins to publish has its names from its table as long as it does."""
    with started(interpreter) as target:
        target.ask("many 3")
        expected = target.kept_names()
        errors: list[ReadError] = []
        poller = Poller(ProcFS(), DEFAULT_CONFIG, report=errors.append)
        poller.always_watch(frozenset({target.pid}))

        def sources() -> tuple[str, set[str], dict[int, str]]:
            view = poller.poll()
            (process,) = [one for one in view.processes if one.key.pid == target.pid]
            names = {thread.tid: thread.name for thread in process.threads}
            return process.names_from, {thread.source for thread in process.threads}, names

        def has_become(wanted: tuple[str, set[str], dict[int, str]]) -> bool:
            return sources() == wanted

        try:
            for command, source in (
                ("", "memory"),
                ("publish", "published"),
                ("unpublish", "memory"),
            ):
                if command:
                    target.ask(f"{command} {testbed.CHECKOUT}")
                wanted = source, {source}, expected
                harness.until(partial(has_become, wanted), f"names whose source is {source}")
        finally:
            poller.close()


SERVED = """
import json, os, threading, time

def flush():
    while True:
        sum(range(2000))
        time.sleep(0.001)

threading.Thread(target=flush, name="metrics-flush", daemon=True).start()

def application(environ, start_response):
    start_response("200 OK", [])
    own = {thread.native_id: thread.name for thread in threading.enumerate() if thread.native_id}
    # which is its parent's in a forked child, up to 3.13.0
    own.pop(threading.main_thread().native_id)
    own[os.getpid()] = threading.main_thread().name
    return [json.dumps([os.getpid(), own]).encode()]
"""


def request(path: Path) -> tuple[int, dict[int, str]]:
    """Return which process of the server has answered, and the threads that it knows."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(DEADLINE)
        connection.connect(str(path))
        connection.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        with connection.makefile("rb") as answer:
            pid, own = json.loads(answer.read().rpartition(b"\r\n\r\n")[2])
    return pid, {int(tid): name for tid, name in own.items()}


@pytest.mark.parametrize("version", [(3, 9), (3, 14), (3, 15)], ids=str)
def test_a_server_that_nobody_restarted(version: tuple[int, int]) -> None:
    """A worker of a gunicorn with threads has all its names, which are those that it tells of itself."""
    interpreter = testbed.require(*version)
    command = python(interpreter, environment(interpreter, "gunicorn==23.0.0"))
    options = "--worker-class=gthread --threads=2 --log-level=critical served:application"
    with tempfile.TemporaryDirectory(dir=interpreter.root / "tmp") as place:
        (Path(place) / "served.py").write_text(SERVED)
        path = Path(place) / "socket"
        within = "/" / Path(place).relative_to(interpreter.root)
        where = (f"--chdir={within}", f"--bind=unix:{within}/socket", f"--worker-tmp-dir={within}")
        process = subprocess.Popen(
            [*command, "-m", "gunicorn", *where, *options.split()],
            env=environ("plain", {}),
            start_new_session=True,
        )
        try:
            harness.until(lambda: harness.is_listening(path), "gunicorn listening")
            pid, _ = request(path)
            outside = Outside(pid)
            deadline = time.monotonic() + DEADLINE
            while True:
                _, own = request(path)  # each request can start a thread of the pool
                if outside.names() == own:
                    break
                assert time.monotonic() < deadline, own
            assert {"MainThread", "metrics-flush", "ThreadPoolExecutor-0_0"} <= set(own.values())
            outside.close()
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


FORKED = """
import json, os, threading, time

def flush():
    while True:
        time.sleep(0.01)

for n in range(4):
    threading.Thread(target=flush, name=f"masters-{n}", daemon=True).start()

def application(environ, start_response):
    start_response("200 OK", [])
    time.sleep(0.1)
    return [json.dumps([os.getpid(), {threading.get_native_id(): threading.current_thread().name}]).encode()]
"""


def test_workers_that_were_forked_past_python(tmp_path: Path) -> None:
    """A uWSGI worker's threads have the names that uWSGI gives them, and none has one of its master's."""
    (tmp_path / "forked.py").write_text(FORKED)
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(6) as clients:
        path = Path(place) / "socket"
        options = (
            f"--pythonpath={tmp_path} --module=forked:application --threads=3 --enable-threads"
        )
        command = [*webservers.UWSGI, f"--http-socket={path}", "--master", "--processes=2"]
        log = tmp_path / "uwsgi.log"
        with webservers.running(
            [*command, *options.split()], str(path), log, asked=False, THREADWATCH="0"
        ) as server:
            threads: dict[int, dict[int, str]] = {}

            def all_have_answered() -> bool:
                for pid, own in clients.map(request, [path] * 6):
                    threads.setdefault(pid, {}).update(own)
                return len(threads) == 2 and all(len(own) == 3 for own in threads.values())

            harness.until(all_have_answered, "all threads of both workers answer")
            for pid, own in threads.items():
                assert {name[:-1] for name in own.values()} <= {
                    f"uWSGIWorker{n}Core" for n in (1, 2)
                }
                outside = Outside(pid)
                until(outside.names, own)
                outside.close()
            outside = Outside(server.process.pid)
            masters = [f"masters-{n}" for n in range(4)]
            harness.until(
                lambda: sorted(outside.names().values()) == ["MainThread", *masters], "the master's"
            )
            outside.close()


def test_an_unknown_version_is_refused(tmp_path: Path) -> None:
    """A Python that says it is 3.16 is not read as another: it has the kernel's names; doctor says why."""
    with started(testbed.require(3, 15)) as target:
        assert ps(tmp_path, target.pid)["source"] == "memory"
        finding = doctor(tmp_path, target.pid)
        assert (finding["source"], finding["gil"]) == ("memory", "found")
        outside = Outside(target.pid)
        with Path(f"/proc/{target.pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(outside.look().runtime + 8)  # the version, behind the cookie
            memory.write((0x031000F0).to_bytes(8, "little"))
        outside.close()
        process = ps(tmp_path, target.pid)
        assert {t["source"] for t in process["threads"]} == {process["source"]} == {"comm"}
        finding = doctor(tmp_path, target.pid)
        assert finding["source"] == "comm"
        assert "3.16" in finding["detail"]
