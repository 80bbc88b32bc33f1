"""Servers that replace a worker after each piece of work: their CPU time is in their groups, whole.

A real gunicorn on an old interpreter and a real celery on a newer one, in a PID namespace of their own
(``python -m tests.integration.test_ended_workers``).
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests import programs, testbed
from tests.harness import DEADLINE, is_listening, run_in_pid_namespace, threadwatch
from tests.loads import Watch
from tests.testbed import Interpreter
from threadwatch.model.keys import UNATTRIBUTED
from threadwatch.model.readings import NS_PER_TICK
from threadwatch.procfs import parse_waited

ENDED = 4
"""Workers that are to end before the eyes of the poller."""
INTERVAL = 0.5
SOURCES = {
    "shop": """
import time
def application(environ, start_response):
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    start_response("200 OK", [])
    return [b"sold"]
""",
    "orders": """
import time
from celery import Celery
app = Celery("orders", broker="memory://")
app.conf.broker_transport_options = {"polling_interval": 0.05}
@app.task
def invoice():
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
@app.on_after_finalize.connect
def begin(sender, **kwargs):
    for _ in range(10):
        invoice.delay()
""",
}


def test_workers_that_are_replaced() -> None:
    """A worker for each request, or task: the group has all that the kernel counts, most of it with names."""
    run_in_pid_namespace(__name__)


@contextlib.contextmanager
def server(
    interpreter: Interpreter, directory: Path, package: str, *arguments: str
) -> Iterator[None]:
    """Yield a server from the package index, under ``threadwatch run``."""
    environment = programs.environment(interpreter, package)
    command = programs.python(interpreter, environment)
    process = subprocess.Popen(
        [*threadwatch("run", "--"), *command, "-m", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(DEADLINE)


def ask(path: Path, enough: threading.Event) -> None:
    """Send one request after the other to the server at a socket."""
    while not enough.is_set():
        connection = http.client.HTTPConnection("localhost", timeout=DEADLINE)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(DEADLINE)
        connection.sock.connect(str(path))
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"sold"
        connection.close()


def ended(watch: Watch) -> int:
    """Return how many threads were seen to end: main threads of workers, whichever thread forked them."""
    return sum(t.ended for group in watch.views[-1].groups for t in group.series.values())


def true_ns(mark: str) -> int:
    """Return what the kernel says of living processes and of children that they have waited for."""
    found = 0
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (directory / "cmdline").read_bytes():
                waited = sum(parse_waited((directory / "stat").read_bytes())) * NS_PER_TICK
                found += time.clock_gettime_ns((~int(directory.name) << 3) | 2) + waited
    return found


def check(name: str, watch: Watch) -> None:
    """Hold what is shown against the kernel's word, when all is at rest but for what waits and looks."""
    begun = time.monotonic()
    while True:
        before_ns = true_ns(watch.mark)
        for _ in range(3):
            watch.poll()
        after_ns = true_ns(watch.mark)
        shown_ns = watch.group.cpu_ns
        slack_ns = 0.01 * after_ns + 4 * NS_PER_TICK
        if before_ns - slack_ns <= shown_ns <= after_ns + slack_ns:
            break
        assert time.monotonic() < begun + DEADLINE / 2, (before_ns, shown_ns, after_ns)
        time.sleep(INTERVAL)
    nameless = watch.cpu.get(UNATTRIBUTED, 0) / shown_ns
    print(f"{name}: {shown_ns / 1e9:.3f} of {after_ns / 1e9:.3f} s, {1 - nameless:.1%} with a name")


def main() -> None:
    """Run both servers at the same time, in the namespace."""
    old, new = testbed.require(3, 9), testbed.require(3, 13)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name, source in SOURCES.items():
            (directory / f"{name}.py").write_text(source)
        shop, orders = Watch(), Watch()
        stack.callback(shop.close)
        stack.callback(orders.close)
        path = directory / "socket"
        gunicorn = f"--bind=unix:{path} --max-requests=1 --name={shop.mark} shop:application"
        celery = (
            f"-A orders worker --pool=prefork --concurrency=1 --max-tasks-per-child=1 "
            f"--without-mingle --without-gossip -n {orders.mark}"
        )
        for interpreter, package, arguments in (
            (old, "gunicorn==23.0.0", gunicorn),
            (new, "celery==5.4.0", celery),
        ):
            module, *_ = package.partition("==")
            stack.enter_context(server(interpreter, directory, package, module, *arguments.split()))
        shop.poll_until(lambda: is_listening(path), "gunicorn listening")
        enough = threading.Event()
        customer = threading.Thread(target=ask, args=(path, enough))
        customer.start()
        stack.callback(customer.join)
        stack.callback(enough.set)
        orders.poll()
        begun = time.monotonic()
        while min(ended(shop), ended(orders)) < ENDED:
            assert time.monotonic() < begun + DEADLINE, (shop.cpu, orders.cpu)
            shop.poll()
            orders.poll()
            time.sleep(INTERVAL)
        enough.set()
        customer.join()
        check(f"{old} gunicorn", shop)
        check(f"{new} celery", orders)


if __name__ == "__main__":
    main()
