"""Servers that run Python in ways of their own, seen by a daemon that was there before them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests import programs, testbed, webservers
from tests.harness import DEADLINE, until
from tests.webservers import Server
from threadwatch.config.defaults import DEFAULT_CONFIG
from threadwatch.model.view import View
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS

ENOUGH = 0.5
"""Seconds of CPU time that each server has to use."""


@pytest.fixture
def poller() -> Iterator[Poller]:
    """Yield a poller, as a daemon has it."""
    config = replace(DEFAULT_CONFIG, poll_interval_ns=100_000_000)
    with closing(Poller(ProcFS(), config, report=lambda _error: None)) as poller:
        poller.poll()
        yield poller


@pytest.fixture
def place() -> Iterator[Path]:
    """Yield a directory with a short name, for a socket's."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def work(servers: Sequence[Server], poller: Poller, enough: float = ENOUGH) -> View:
    """Return what a poll shows once each server has worked, and all of their processes have been shown."""
    end = time.monotonic() + DEADLINE
    for server in servers:
        before = server.cpu_seconds()
        while server.cpu_seconds() < before + enough:
            assert time.monotonic() < end
            server.request()
        poller.poll()
    pids = {pid for server in servers for pid in server.pids()}
    while True:
        view = poller.poll()
        if pids <= {process.key.pid for process in view.processes}:
            return view
        assert time.monotonic() < end, pids
        poller.sample_for(0.1)


def check(view: View, server: Server, name: str, processes: int) -> None:
    """Check that all processes of a server are in the group of this name, with all their CPU time."""
    groups = {process.group for process in view.processes if process.key.pid in server.pids()}
    assert groups == {name}
    (group,) = (group for group in view.groups if group.name == name)
    assert group.processes == processes
    assert group.cpu_ns / 1e9 == pytest.approx(server.cpu_seconds(), rel=0.1)
    charged = sum(totals.user_ns + totals.system_ns for totals in group.series.values())
    assert charged == pytest.approx(group.cpu_ns, rel=0.001)


WORKERS = {"uWSGIWorker1Core0", "uWSGIWorker2Core0"}
CORES = WORKERS | {"uWSGIWorker1Core1", "uWSGIWorker2Core1"}
NAMED = {
    "prefork": ("--master --processes 2", {"MainThread"} | WORKERS),
    "lazy": ("--master --processes 2 --lazy-apps --enable-threads", {"MainThread"} | WORKERS),
    "threads": ("--master --processes 2 --threads 2", {"MainThread"} | CORES),
    "masterless": ("--processes 2", WORKERS),
    "single": ("--enable-threads", {"uWSGIWorker1Core0"}),
    "after": (
        "--master --processes 2 --enable-threads --py-call-osafterfork",
        {"MainThread"} | WORKERS,
    ),
    "hooks": (
        "--master --processes 2 --enable-threads --py-call-uwsgi-fork-hooks",
        {"MainThread"} | WORKERS,
    ),
}
"""uWSGI's ways to fork, and the threads that run Python in them. (``--py-call-osafterfork`` is for CPython
up to 3.12: on 3.13 workers end in it, whether they publish or not.)"""


@pytest.mark.parametrize("version", [(3, 9), (3, 12), (3, 13)], ids=lambda v: f"{v[0]}.{v[1]}")
def test_uwsgi_names(version: tuple[int, int], place: Path, poller: Poller) -> None:
    """The names that uWSGI gives its workers' threads are published, though it forks past Python."""
    root = programs.environment(testbed.require(*version), "uwsgi==2.0.31")
    command = (str(root / "bin/uwsgi"), "--home", str(root))
    ways = {name: way for name, way in NAMED.items() if version < (3, 13) or name != "after"}
    with ExitStack() as stack:
        servers = {}
        for name, (options, _) in ways.items():
            module = ("--module", f"{name}:application")
            (place / f"{name}.py").write_text("from wsgi_app import application\n")
            run = webservers.uwsgi(place, *module, *options.split(), name=name, command=command)
            servers[name] = stack.enter_context(run)
        view = work(list(servers.values()), poller, 0.1)
        for name, (_, threads) in ways.items():
            processes = [p for p in view.processes if p.key.pid in servers[name].pids()]
            assert {p.group for p in processes} == {name}
            found = {thread.name: thread.source for p in processes for thread in p.threads}
            assert found == dict.fromkeys(threads, "published"), name
            for process in processes:
                threads_ns = sum(thread.user_ns + thread.system_ns for thread in process.threads)
                assert threads_ns == pytest.approx(process.cpu_ns, rel=0.01)
            check(view, servers[name], name, len(processes))


def test_uwsgi(place: Path, poller: Poller) -> None:
    """Each uWSGI is a group of all its processes, whichever of them have noticed that they were forked."""
    ways = {
        "prefork": ("--master --processes 2", 3),
        "lazy": ("--master --processes 2 --lazy-apps", 3),
        "threads": ("--master --processes 2 --threads 2", 3),
        "mule": ("--master --processes 1 --mule", 3),
        "masterless": ("--processes 2", 2),
        "single": ("--enable-threads", 1),
    }
    with ExitStack() as stack:
        servers = {}
        for name, (options, _) in ways.items():
            module = ("--module", f"{name}:application")  # the group is called after it
            (place / f"{name}.py").write_text("from wsgi_app import application\n")
            run = webservers.uwsgi(place, *module, *options.split(), name=name)
            servers[name] = stack.enter_context(run)
        view = work(list(servers.values()), poller)
        for name, (_, processes) in ways.items():
            check(view, servers[name], name, processes)


def test_mod_wsgi(place: Path, poller: Poller) -> None:
    """Threads of an application have their names whose interpreter mod_wsgi makes with the first request.

    The daemon knows Apache's processes by then. Their CPU time is theirs, and that of threads as well.
    """
    with webservers.apache(place) as server:
        for _ in range(20):
            poller.poll()
            poller.sample_for(0.05)
        serving = {server.request() for _ in range(8)}

        def named() -> set[int]:
            return {
                process.key.pid
                for process in poller.poll().processes
                if any(thread.name == "metrics-flush" for thread in process.threads)
            }

        until(lambda: serving <= named(), "the names of the application's threads")
        view = poller.poll()
        assert {p.group for p in view.processes if p.key.pid in serving} == {"apache2"}
