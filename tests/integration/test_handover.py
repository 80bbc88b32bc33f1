"""Tables that processes hand over to a daemon without any capability, which cannot look into them.

The daemon is a real one, of a user of its own. The targets belong to others. So each name that it shows has
come through its socket.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from tests import harness, testbed
from tests.harness import until
from tests.integration import comparison
from tests.integration.comparison import Shown
from tests.integration.conftest import Fleet
from tests.integration.rights import as_nobody, as_root, in_user_namespace
from tests.integration.test_hostile_memory import trap
from tests.serving import Serving, ready, serving
from tests.testbed import Interpreter
from threadwatch.handover.receiver import AT_ONCE, MOST_PEERS

USER = 4001
"""The daemon's."""
POWERLESS = (
    *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--pdeathsig=keep"),
    *("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"),
)


class Receiving:
    """A daemon without capabilities, at whose socket tables are handed over."""

    def __init__(self, directory: Path, daemon: Serving) -> None:
        self.socket = directory / "publish.socket"
        self.environment = {"THREADWATCH_SOCKET": str(self.socket)}
        self.daemon = daemon

    def count(self, result: str) -> int:
        """Return how many tables have had this result."""
        name = f'threadwatch_tables_handed_over_total{{result="{result}"}}'
        return int(float(self.daemon.metric(name) or 0))

    def shown(self, pids: list[int]) -> dict[int, dict[int, Shown]]:
        """Return what the daemon's last poll shows of these processes."""
        found: dict[int, dict[int, Shown]] = {}
        status, body = self.daemon.get("/api/v1/view")
        for process in json.loads(body)["processes"] if status == 200 else ():
            if process["pid"] in pids:
                found[process["pid"]] = {
                    t["tid"]: Shown(*(t[key] for key in Shown.__slots__))
                    for t in process["threads"]
                }
        return found

    def names(self, pid: int) -> dict[str, str]:
        """Return the names of a process's threads, with their sources."""
        return {t.name: t.source for t in self.shown([pid]).get(pid, {}).values()}

    def has_names(self, pid: int) -> bool:
        """Return whether it has the names of a process that :data:`PUBLISHES`."""
        return self.names(pid) == NAMED


@contextmanager
def place() -> Iterator[Path]:
    """Give a directory that all users can see, and the daemon's can change."""
    directory = Path(tempfile.mkdtemp(prefix="handover-"))
    os.chmod(directory, 0o755)  # noqa: S103  # who connects has to find the socket
    os.chown(directory, USER, USER)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@contextmanager
def receiving(directory: Path, prefix: Sequence[str] = ()) -> Iterator[Receiving]:
    """Run a daemon that has its socket in this directory. ``prefix``: a command that runs it elsewhere."""
    config = directory / "config.yml"
    config.write_text(
        f"poll_interval: 100ms\nexpire_after: 1s\npublish_socket: {directory}/publish.socket\n"
        "groups: [{name: by exec, match: {comm: ^(cat|sleep)$}}]\n"
    )
    with serving(directory, f"--config.file={config}", prefix=(*prefix, *POWERLESS)) as daemon:
        yield Receiving(directory, daemon)


@pytest.fixture
def receiver() -> Iterator[Receiving]:
    """Give a daemon that receives tables."""
    with place() as directory, receiving(directory) as found:
        yield found


@pytest.mark.parametrize(
    ("program", "where"),
    [
        (("lifecycle.py",), as_nobody),
        (("forks.py",), as_nobody),
        (("exec.py",), as_nobody),
        (("users.py", "worker"), as_root),
        (("users.py", "worker"), in_user_namespace),
    ],
    ids=lambda value: value.__name__ if callable(value) else "-".join(value),
)
def test_names_of_all_users(
    program: tuple[str, ...],
    where: Callable[[Interpreter], Interpreter],
    receiver: Receiving,
    fleet: Fleet,
) -> None:
    """Names are right at each step: births, ends, renames, forks, exec, another user, subinterpreters."""
    comparison.drive(
        (
            fleet.start(where(interpreter), *program, environment=receiver.environment)
            for interpreter in testbed.interpreters()
        ),
        eyes=receiver.shown,
    )
    until(lambda: receiver.count("believed") >= len(testbed.interpreters()), "they are counted")


PUBLISHES = """
import os, signal, sys, threading, threadwatch
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
threading.Thread(target=threading.Event().wait, name="worker", daemon=True).start()
before = os.listdir("/proc/self/fd")
print(threadwatch.publish(), len(os.listdir("/proc/self/fd")) - len(before), flush=True)
for line in sys.stdin:
    threadwatch.unpublish()
    print(threadwatch.publish(), flush=True)
"""
"""Publishes, says whether it does and how many descriptors that takes; for each line, it publishes anew."""
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
NAMED = {"MainThread": "published", "worker": "published"}


@contextmanager
def publishing(
    environment: dict[str, str], *command: str, prefix: Sequence[str] = NOBODY
) -> Iterator[subprocess.Popen[str]]:
    """Run a process that publishes, of another user, by the machine's own Python."""
    python = command or ("/usr/bin/python3",)
    env = harness.environ("publish", environment)
    with ready(*prefix, *python, "-c", PUBLISHES, first="True 1", env=env) as process:
        yield process


def test_a_daemon_is_restarted() -> None:
    """What a killed daemon had been handed over, the next one gets with the next table; no process waits."""
    with place() as directory, ExitStack() as stack:
        with receiving(directory) as first:
            older = stack.enter_context(publishing(first.environment))
            until(partial(first.has_names, older.pid), "the first one has the names")
        between = stack.enter_context(publishing(first.environment))
        with receiving(directory) as second:
            younger = stack.enter_context(publishing(second.environment))
            until(partial(second.has_names, younger.pid), "the second one has new names")
            for process in (older, between):
                assert set(second.names(process.pid).values()) == {"comm"}
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
                until(partial(second.has_names, process.pid), "it has sent another")


def test_a_daemon_that_does_not_accept(receiver: Receiving) -> None:
    """No process waits for a daemon that hangs: tables for which its queue has no room are given up."""
    os.kill(receiver.daemon.process.pid, signal.SIGSTOP)
    with ExitStack() as stack:
        try:
            queued = stack.enter_context(publishing(receiver.environment))
            full = False
            while not full:
                connection = stack.enter_context(
                    socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                )
                connection.setblocking(False)
                full = connection.connect_ex(str(receiver.socket)) == errno.EAGAIN
            given_up = stack.enter_context(publishing(receiver.environment))
        finally:
            os.kill(receiver.daemon.process.pid, signal.SIGCONT)
        until(partial(receiver.has_names, queued.pid), "what was in the queue is received")
        assert set(receiver.names(given_up.pid).values()) == {"comm"}


CONTAINER = """
mount -t tmpfs none /run && mkdir /run/threadwatch && mount --bind "$1" /run/threadwatch && shift && exec "$@"
"""


def test_a_container(receiver: Receiving) -> None:
    """In namespaces of its own, with the socket at its default place: names are right."""
    prefix = (
        *(*NOBODY, "unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork"),
        *("--kill-child", "--mount-proc", "sh", "-c", CONTAINER, "sh", str(receiver.socket.parent)),
    )
    with publishing({}, prefix=prefix):
        until(lambda: receiver.count("believed") == 1, "its table is believed")

        def names() -> list[dict[str, str]]:
            pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
            return [
                {t.name: t.source for t in threads.values()}
                for threads in receiver.shown(pids).values()
            ]

        until(lambda: NAMED in names(), "its names are shown")


def test_a_process_that_the_daemon_cannot_see() -> None:
    """A table from another PID namespace than the daemon's and those inside is counted, and not kept."""
    inside = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    with place() as directory, receiving(directory, inside) as receiver:
        with publishing(receiver.environment):
            until(lambda: receiver.count("invisible") == 1, "it is counted")
        assert receiver.count("believed") == 0


def test_a_file_whose_close_waits(receiver: Receiving, tmp_path: Path) -> None:
    """A file on a file system that does not answer stops neither polls nor other users' tables."""
    with trap(tmp_path / "trap", "hand", str(receiver.socket)) as told:
        until(lambda: receiver.count("hung") == 1, "it is given up")
        with publishing(receiver.environment) as process:
            until(partial(receiver.has_names, process.pid), "another user's is received")
        os.kill(told["server"], signal.SIGKILL)


FLOOD = """
import os, socket, sys, time
memfds = [os.memfd_create("threadwatch") for _ in range(253)]
end = time.monotonic() + 2
made = 0
while time.monotonic() < end:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as daemon:
        daemon.setblocking(False)
        if daemon.connect_ex(sys.argv[1]) == 0:
            made += 1
            try:
                socket.send_fds(daemon, [b"thrdwtch"], memfds[: 1 + made % 253])
            except OSError:
                pass
print(made)
"""


def test_a_flood(receiver: Receiving) -> None:
    """As many connections as one user can make cost a bounded share of a CPU, and few descriptors."""
    pid = receiver.daemon.process.pid

    def clock_s() -> float:
        return time.clock_gettime_ns((~pid << 3) | 2) / 1e9

    began_s, used_s, most = time.monotonic(), clock_s(), 0
    before = len(os.listdir(f"/proc/{pid}/fd"))
    with subprocess.Popen(
        [*NOBODY, "/usr/bin/python3", "-c", FLOOD, str(receiver.socket)], stdout=subprocess.PIPE
    ) as flood:
        while flood.poll() is None:
            most = max(most, len(os.listdir(f"/proc/{pid}/fd")))
        assert flood.stdout is not None
        made = int(flood.stdout.read())
    used_s, took_s = clock_s() - used_s, time.monotonic() - began_s
    assert made > 1000
    # those that are accepted at once, those of one user that are awaited, and what polls open
    assert most <= before + AT_ONCE + MOST_PEERS // 2 + 16
    # a burst, a twentieth of a CPU, and the polls
    assert used_s < 0.25 + (0.05 + 0.3) * took_s
    root = ("setpriv", "--reuid=0")
    with publishing(receiver.environment, prefix=root) as process:
        process_again(receiver, process)


def process_again(receiver: Receiving, process: subprocess.Popen[str]) -> None:
    """Have a process publish anew until the daemon has its names: tables can find the queue full."""
    assert process.stdin is not None
    for _ in range(100):
        process.stdin.write("\n")
        process.stdin.flush()
        with suppress(AssertionError):
            until(partial(receiver.has_names, process.pid), "it is received", 0.5)
            return
    raise AssertionError("it is never received")


HARMLESS = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
import threadwatch
def files():
    return sorted(os.readlink("/proc/self/fd/" + fd) for fd in os.listdir("/proc/self/fd")[:-1])
before = files()
for _ in range(100):
    assert threadwatch.publish()
    assert "_socket" in sys.modules or "_socket" not in sys.builtin_module_names
    threadwatch.unpublish()
import threading
for _ in range(100):
    assert threadwatch.publish()
    threadwatch.unpublish()
assert "_socket" in sys.modules and "socket" not in sys.modules
threadwatch.publish()
pid = os.fork()
names = [name for name in files() if name not in before]
assert names == ["/memfd:threadwatch (deleted)"], names
if pid:
    assert os.waitpid(pid, 0)[1] == 0
"""


def test_a_socket_does_no_harm(interpreter: Interpreter) -> None:
    """A daemon that closes each connection at once, or is none: no signal, no error, no descriptor left."""
    with place() as directory, ExitStack() as stack:
        stack.enter_context(socket.socket(socket.AF_UNIX)).bind(str(directory / "stale"))
        stack.enter_context(listener(directory / "stream", socket.SOCK_STREAM))
        closes = stack.enter_context(listener(directory / "closes", socket.SOCK_SEQPACKET))

        def close_each() -> None:
            with suppress(OSError):
                while True:
                    closes.accept()[0].close()

        thread = threading.Thread(target=close_each)
        thread.start()
        stack.callback(thread.join)
        stack.callback(closes.shutdown, socket.SHUT_RDWR)
        for name in ("closes", "stream", "stale"):
            path = str(directory / name)
            done = subprocess.run(
                [*interpreter.command, *harness.STRICT, "-c", HARMLESS, str(testbed.CHECKOUT)],
                env=harness.environ("plain", {"THREADWATCH_SOCKET": path}),
                capture_output=True,
                text=True,
                timeout=harness.DEADLINE,
                check=False,
            )
            assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), name


@pytest.mark.parametrize(
    "path", ["", "relative", "/nowhere", "/", "/dev/null", "/\udcff" + "x" * 200]
)
def test_nothing_is_imported_without_a_socket(path: str) -> None:
    """Where no socket is, a process publishes as ever, and has not imported what it would take to send."""
    program = (
        "import sys, threading, threadwatch; assert threadwatch.publish(); "
        "threading.Thread(target=print).start(); sys.exit('_socket' in sys.modules)"
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-c", program],
        env=harness.environ("publish", {"THREADWATCH_SOCKET": path}),
        capture_output=True,
        timeout=harness.DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def listener(path: Path, kind: socket.SocketKind) -> socket.socket:
    """Return a socket that listens at a path."""
    found = socket.socket(socket.AF_UNIX, kind)
    found.bind(str(path))
    found.listen(16)
    return found
