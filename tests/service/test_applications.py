"""Real applications under ``threadwatch run``, unchanged, and what two real Prometheus servers say of them.

gunicorn with threads, celery with its pool of threads, uvicorn with workers that hand work to threads:
all are under load at the same time, watched by one daemon without a configuration, and scraped by
Prometheus 2 and 3. The applications tell which threads did their work; PromQL has to tell the same.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import threading
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import harness, prometheus, testbed
from tests import programs as programs_of
from tests.prometheus import Prometheus
from tests.serving import serving
from tests.testbed import CHECKOUT

VERSION = (3, 12)
WORK = """
import os, threading, time
def work():
    end = time.thread_time() + 0.01
    while time.thread_time() < end:
        pass
    name = threading.current_thread().name
    open(os.path.join(os.environ["NAMES"], name), "w").close()
    return name.encode()
def flush():
    while True:
        work()
        time.sleep(0.03)
"""
SOURCES = {
    "shop": """
threading.Thread(target=flush, name="metrics-flush", daemon=True).start()
def application(environ, start_response):
    start_response("200 OK", [])
    return [work()]
""",
    "orders": """
from celery import Celery, signals
app = Celery("orders", broker="memory://")
app.conf.broker_transport_options = {"polling_interval": 0.05}
@app.task
def invoice():
    work()
    invoice.delay()
@signals.worker_ready.connect
def begin(**_):
    threading.Thread(target=flush, name="ledger", daemon=True).start()
    for _ in range(3):
        invoice.delay()
""",
    "news": """
import asyncio
threading.Thread(target=flush, name="feed-reader", daemon=True).start()
async def app(scope, receive, send):
    if scope["type"] == "http":
        body = await asyncio.to_thread(work)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
    else:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
""",
}
COMMANDS = {
    "shop": "gunicorn --workers=2 --worker-class=gthread --threads=4 --bind=unix:SOCKET shop:application",
    "orders": "celery -A orders worker --pool=threads --concurrency=3 --without-mingle --without-gossip",
    "news": "uvicorn --workers=2 --uds=SOCKET --log-level=warning news:app",
}
PROCESSES = {"shop": 3, "orders": 1, "news": 4}
"""The master and its workers; for uvicorn also the resource tracker of multiprocessing."""
SERVERS = {"prometheus-2": prometheus.ON_PATH, "prometheus-3": prometheus.IN_TESTBED}


@dataclass(frozen=True)
class Application:
    """One that runs."""

    name: str
    directory: Path

    def names(self) -> set[str]:
        """Return the threads that have done its work, by their names as series have them: numbers folded."""
        return {re.sub(r"\d+", "N", name) for name in os.listdir(self.directory / "names")}


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=harness.DEADLINE)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@pytest.fixture(scope="module")
def programs() -> Path:
    """Return the directory of the programs: an environment without threadwatch, kept between runs."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    wanted = project["dependency-groups"]["apps"]
    return programs_of.environment(testbed.require(*VERSION), *wanted) / "bin"


@contextlib.contextmanager
def _running(name: str, programs: Path, directory: Path) -> Iterator[Application]:
    """Yield the application, under load."""
    (directory / "names").mkdir(parents=True)
    (directory / f"{name}.py").write_text(WORK + SOURCES[name])
    program, *arguments = COMMANDS[name].replace("SOCKET", str(directory / "socket")).split()
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*harness.threadwatch("run", "--"), str(programs / program), *arguments],
            cwd=CHECKOUT,
            env=_environment(directory),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    stop = threading.Event()
    clients = [
        threading.Thread(target=_client, args=(directory / "socket", stop))
        for _ in range(2 if "SOCKET" in COMMANDS[name] else 0)
    ]
    for client in clients:
        client.start()
    application = Application(name, directory)
    try:
        harness.until(
            lambda: process.poll() is not None or len(application.names()) == 2,
            f"threads at work in {name}: {application.names()}",
        )
        assert process.poll() is None, log.read_text()
        yield application
    finally:
        stop.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for client in clients:
            client.join()


def _environment(directory: Path) -> dict[str, str]:
    """Return the application's environment: the checkout is not on its path, its own directory is."""
    names = str(directory / "names")
    return harness.environ("run", {"PYTHONPATH": str(directory), "NAMES": names})


def _client(path: Path, stop: threading.Event) -> None:
    """Send one request after another until told to stop."""
    while not stop.wait(0.05):
        with (
            contextlib.suppress(OSError, http.client.HTTPException),  # not up yet, or down by now
            contextlib.closing(UnixConnection(path)) as connection,
        ):
            connection.request("GET", "/")
            connection.getresponse().read()


@pytest.fixture(scope="module")
def applications(
    programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Application]]:
    """Yield all applications, running side by side."""
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(_running(name, programs, tmp_path_factory.mktemp(name) / "a"))
            for name in SOURCES
        }


@pytest.fixture(scope="module")
def servers(
    applications: Mapping[str, Application], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Prometheus]]:
    """Yield the Prometheus servers, which scrape one daemon that watches all applications."""
    assert applications
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(serving(tmp_path_factory.mktemp("daemon")))
        config = (
            "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n"
            f"- {{job_name: threadwatch, static_configs: [{{targets: ['{daemon.url[7:]}']}}]}}\n"
        )
        yield {
            name: stack.enter_context(
                Prometheus(tmp_path_factory.mktemp(name), config=config, command=command)
            )
            for name, command in SERVERS.items()
        }


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("name", SOURCES)
def test_cpu_by_thread_name(
    name: str,
    server: str,
    applications: Mapping[str, Application],
    servers: Mapping[str, Prometheus],
) -> None:
    """PromQL gives the CPU of the very threads that did the work, under the application's name."""
    application, asked = applications[name], servers[server]
    cpu = f'sum by (group, thread) (rate(threadwatch_thread_cpu_seconds_total{{group="{name}"}}[15s]))'
    at_work = application.names()
    for thread in sorted(at_work):
        this = f'label_replace(vector(1), "thread", "{thread}", "", "")'
        (found,) = asked.wait_for(f"({cpu} > 0.001) and on (thread) {this}")
        assert found.labels == {"group": name, "thread": thread}
    # once the group has used so much that 10 % of it are no chance: half a second
    most = f"{cpu} > on (group) group_left () (0.1 * (sum by (group) ({cpu}) > 0.03))"
    assert {r.labels["thread"] for r in asked.wait_for(most)} <= {*at_work, "MainThread"}


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("name", SOURCES)
def test_processes_are_one_application(
    name: str,
    server: str,
    applications: Mapping[str, Application],
    servers: Mapping[str, Prometheus],
) -> None:
    """Master and workers are one group, and every one of them publishes."""
    assert applications
    asked = servers[server]
    for metric in ("threadwatch_group_processes", "threadwatch_group_published_processes"):
        asked.wait_for(f'{metric}{{group="{name}"}} == {PROCESSES[name]}')
    everything = asked.query("threadwatch_group_processes")
    assert not {r.labels["group"] for r in everything} & {"gunicorn", "celery", "uvicorn"}


@pytest.mark.parametrize("server", SERVERS)
def test_threads_are_counted_for_the_whole(
    server: str, servers: Mapping[str, Prometheus], applications: Mapping[str, Application]
) -> None:
    """The threads of a group together have used what its processes have used, to the last scrape."""
    asked = servers[server]
    for name in applications:
        group = f'{{group="{name}"}}'
        asked.wait_for(f"threadwatch_group_cpu_seconds_total{group} > 0.5")
        parts = f"sum by (group) (threadwatch_thread_cpu_seconds_total{group})"
        (ratio,) = (
            asked.wait_for(  # after a scrape that a busy machine did not answer in time, none
                f"{parts} / sum by (group) (threadwatch_group_cpu_seconds_total{group})"
            )
        )
        assert ratio.value == pytest.approx(1, abs=1e-6), name
