"""What is said to a service manager, and what is understood of what it says."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from threadwatch.commands.service_manager import (
    InheritedFd,
    ServiceManager,
    describe,
    is_journal,
    parse_listen_fds,
    parse_notify_socket,
    parse_watchdog,
    take_sockets,
)
from threadwatch.errors import Unusable
from threadwatch.model.keys import Python, SeriesKey
from threadwatch.model.view import GroupView, SeriesTotals, Stats, View

MILLISECOND = 1_000_000


def view(*, polls: int = 1, cpu_ms: int = 0, at_ms: int = 0, errors: int = 0) -> View:
    """Two groups: three processes, one of them published, and five threads."""

    def series(threads: Mapping[str, int]) -> SeriesTotals:
        none: dict[str, None] = dict.fromkeys(
            ("voluntary_switches", "involuntary_switches", "read_bytes", "write_bytes")
        )
        return SeriesTotals(
            **none,
            user_ns=0,
            system_ns=0,
            runqueue_ns=None,
            timeslices=None,
            minor_faults=0,
            major_faults=0,
            gil_held_ns=None,
            started=0,
            ended=0,
            states={},
            now=threads,
        )

    def group(name: str, processes: int, pythons: int, **threads: Mapping[str, int]) -> GroupView:
        return GroupView(
            name=name,
            per="group",
            cpu_ns=0,
            processes=processes,
            names_from={"published": pythons},
            pythons={Python("cpython", (3, 13, 0), False, True): pythons},
            series={SeriesKey(thread): series(now) for thread, now in threads.items()},
            dropped=0,
        )

    return View(
        sequence=polls,
        time=0.0,
        monotonic_ns=at_ms * MILLISECOND,
        boottime_ns=at_ms * MILLISECOND,
        interval_ns=1000 * MILLISECOND,
        details=False,
        processes=(),
        groups=(
            group("a", 2, 1, main={"sleep": 2, "running": 0}, pool={"lock": 2}),
            group("b", 1, 0, main={"poll": 1}),
        ),
        thread_info=False,
        stats=Stats(
            polls=polls,
            poll_cpu_ns=cpu_ms * MILLISECOND,
            read_errors=MappingProxyType({("fd", "denied"): errors} if errors else {}),
        ),
    )


class Listening:
    """A socket that stands for the manager's, and the environment that names it."""

    def __init__(self, address: str, **variables: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)
        self.environ = {"NOTIFY_SOCKET": address.replace("\0", "@"), **variables}

    def heard(self) -> list[str]:
        """Return what has been said since this was last asked."""
        said = []
        while True:
            try:
                said.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return said


@pytest.fixture(params=["path", "abstract"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listening]:
    """Yield a manager's socket of each kind, with a watchdog of 30 s."""
    path = str(tmp_path / "notify")
    heard = Listening(
        path if request.param == "path" else f"\0{path}",
        WATCHDOG_USEC="30000000",
        WATCHDOG_PID=str(os.getpid()),
    )
    with heard.socket:
        yield heard


def test_ready_is_said_after_a_poll_and_once(listening: Listening) -> None:
    """READY, the watchdog and the status come with the first complete poll; then nothing until it is due."""
    manager = ServiceManager(listening.environ)
    manager.expect_polls(10**9)
    assert listening.heard() == []
    manager.polled(view(cpu_ms=2))
    (said,) = listening.heard()
    assert said.splitlines()[:2] == ["READY=1", "WATCHDOG=1"]
    assert said.splitlines()[2].startswith("STATUS=Watching 3 processes")
    manager.polled(view(polls=2))
    assert listening.heard() == []
    manager.close()


def test_watchdog_is_fed_four_times_in_its_time(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With polls every 100 ms, a watchdog of 2 s is fed every 500 ms, and one of 30 s every 5 s."""
    for limit_ms, every_ms in ((2_000, 500), (30_000, 5_000)):
        manager = ServiceManager(listening.environ | {"WATCHDOG_USEC": str(limit_ms * 1000)})
        start_ms, fed = 10**6, []
        for at_ms in range(start_ms, start_ms + 20_000, 100):
            monkeypatch.setattr(time, "monotonic_ns", lambda now=at_ms: now * MILLISECOND)
            manager.polled(view())
            fed += [at_ms - start_ms] * sum("WATCHDOG=1" in said for said in listening.heard())
        assert fed == list(range(0, 20_000, every_ms))
        manager.close()


def test_a_poll_that_is_waited_for_is_given_time(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step of the first poll, or of a reload's, asks for the watchdog's time, every 5 s at most."""
    manager = ServiceManager(listening.environ)

    def asked(seconds: range) -> list[int]:
        times = []
        for at_s in seconds:
            monkeypatch.setattr(time, "monotonic_ns", lambda now=at_s: now * 10**9)
            manager.getting_on()
            times += [at_s] * listening.heard().count("EXTEND_TIMEOUT_USEC=30000000")
        return times

    assert [manager.waits] == [True]
    assert asked(range(100, 112)) == [100, 105, 110]
    manager.polled(view())
    assert [manager.waits] == [False]
    assert "READY=1" in listening.heard()[0]
    assert asked(range(112, 150)) == []
    manager.reloading()
    manager.reloaded()
    assert [manager.waits] == [True]
    assert asked(range(150, 152)) == [150]
    manager.close()
    without_watchdog = {"NOTIFY_SOCKET": listening.environ["NOTIFY_SOCKET"]}
    manager = ServiceManager(without_watchdog)
    listening.heard()
    manager.getting_on()
    assert listening.heard() == ["EXTEND_TIMEOUT_USEC=60000000"]
    manager.close()


def test_watchdog_is_made_longer_for_rare_polls(listening: Listening) -> None:
    """Polls that come later than half the watchdog's time make it longer, and only those."""
    manager = ServiceManager(listening.environ)
    manager.expect_polls(15 * 10**9)
    assert listening.heard() == []
    manager.expect_polls(30 * 10**9)
    assert listening.heard() == ["WATCHDOG_USEC=60000000"]
    manager.expect_polls(1 * 10**9)
    assert listening.heard() == []
    manager.close()


def test_reload_ends_with_a_poll(listening: Listening) -> None:
    """RELOADING has the time in microseconds; READY comes with the next poll, and says if it failed."""
    manager = ServiceManager(listening.environ)
    manager.polled(view())
    listening.heard()
    before_us = time.monotonic_ns() // 1000
    manager.reloading()
    manager.reloaded("x.yml:1: no\nREADY=0")
    (said,) = listening.heard()
    reloading, stamp = said.splitlines()
    assert reloading == "RELOADING=1"
    assert before_us <= int(stamp.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    manager.polled(view(polls=2))
    (said,) = listening.heard()
    assert said.splitlines()[:2] == ["READY=1", "WATCHDOG=1"]
    assert said.endswith(" The last reload failed: x.yml:1: no\\nREADY=0")
    manager.reloading()
    manager.reloaded()
    manager.polled(view(polls=3))
    assert "failed" not in listening.heard()[-1]
    manager.close()


def test_what_was_not_heard_is_said_again(listening: Listening, tmp_path: Path) -> None:
    """A manager that is away, or does not listen, delays no poll; READY is repeated until it is taken."""
    manager = ServiceManager(listening.environ)
    address = listening.socket.getsockname()
    listening.socket.close()
    (tmp_path / "notify").unlink(missing_ok=True)
    manager.polled(view())
    listening.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with listening.socket:
        listening.socket.bind(address)
        listening.socket.setblocking(False)
        manager.polled(view(polls=2))
        assert listening.heard()[0].startswith("READY=1\n")
        began = time.monotonic()
        for _ in range(10_000):  # more than the kernel keeps for a reader that does not read
            manager.stopping()
        assert time.monotonic() - began < 10
    manager.close()


def test_status_fits_into_a_message(listening: Listening) -> None:
    """However long a line about a bad configuration is, the status is cut before the manager's limit."""
    manager = ServiceManager(listening.environ)
    manager.reloaded("é" * 10_000)
    manager.polled(view())
    (said,) = listening.heard()
    assert said.endswith("…")
    assert len(said.encode()) < 4096
    manager.close()


def test_without_a_manager_nothing_happens() -> None:
    """In an environment that names no manager, every call is silent."""
    manager = ServiceManager({})
    manager.expect_polls(10**12)
    manager.polled(view())
    manager.reloading()
    manager.reloaded("x")
    assert not manager.waits
    manager.getting_on()
    manager.stopping()
    manager.close()


def test_description_says_what_is_watched_and_what_it_costs() -> None:
    """The status counts processes and threads, and has the cost since the status before."""
    first = view(polls=1, cpu_ms=8)
    later = view(polls=5, cpu_ms=18, at_ms=1000, errors=2)
    assert describe(first, None) == (
        "Watching 3 processes (1 published) with 5 threads. A poll takes 8.0 ms of CPU."
    )
    assert describe(later, first) == (
        "Watching 3 processes (1 published) with 5 threads. A poll takes 2.5 ms of CPU, and all "
        "together 1.0 % of one. Permission hides some: threadwatch doctor says what."
    )
    short = first._replace(stats=first.stats._replace(read_errors={("process", "emfile"): 3}))
    assert describe(short, None).endswith(
        " Some are left out for want of file descriptors: threadwatch doctor says how many."
    )


@pytest.mark.parametrize(
    ("value", "address"), [("/run/notify", "/run/notify"), ("@a/b", "\0a/b"), ("@\n", "\0\n")]
)
def test_notify_socket_can_be_understood(value: str, address: str) -> None:
    """A path stands for itself, @ for an abstract socket."""
    assert parse_notify_socket(value) == address


@pytest.mark.parametrize("value", ["", "/", "@", "run/notify", "vsock:2:1", "/a\0b"])
def test_bad_notify_socket_is_named(value: str) -> None:
    """Anything else is an error of one line that says what would be right."""
    with pytest.raises(ValueError, match=r"^NOTIFY_SOCKET=.* is neither a path nor"):
        parse_notify_socket(value)
    if value:
        with pytest.raises(Unusable, match="NOTIFY_SOCKET"):
            ServiceManager({"NOTIFY_SOCKET": value})


def test_watchdog_is_for_one_process() -> None:
    """Only the process that WATCHDOG_PID names is watched; without it, any; 0 is none."""
    assert parse_watchdog({}, 7) is None
    assert parse_watchdog({"WATCHDOG_USEC": "5"}, 7) == 5
    assert parse_watchdog({"WATCHDOG_USEC": "5", "WATCHDOG_PID": "7"}, 7) == 5
    assert parse_watchdog({"WATCHDOG_USEC": "5", "WATCHDOG_PID": "8"}, 7) is None
    assert parse_watchdog({"WATCHDOG_USEC": "0"}, 7) is None
    with pytest.raises(ValueError, match="WATCHDOG_USEC='x' is not a number"):
        parse_watchdog({"WATCHDOG_USEC": "x"}, 7)


def test_listen_fds_are_for_one_process() -> None:
    """Only the process that LISTEN_PID names takes the descriptors, from 3 on, with their names."""
    environ = {"LISTEN_FDS": "2", "LISTEN_PID": "7"}
    assert parse_listen_fds(environ, 8) == ()
    assert parse_listen_fds({"LISTEN_FDS": "2"}, 7) == ()
    assert parse_listen_fds(environ, 7) == (InheritedFd(3, "unknown"), InheritedFd(4, "unknown"))
    named = environ | {"LISTEN_FDNAMES": "a:b:c"}
    assert parse_listen_fds(named, 7) == (InheritedFd(3, "a"), InheritedFd(4, "b"))
    named["LISTEN_FDNAMES"] = "a"
    assert parse_listen_fds(named, 7) == (InheritedFd(3, "a"), InheritedFd(4, "unknown"))


def test_journal_is_known_by_device_and_inode() -> None:
    """Only the very stream that JOURNAL_STREAM names is the journal."""
    assert is_journal({"JOURNAL_STREAM": "8:1234"}, 8, 1234)
    assert not is_journal({"JOURNAL_STREAM": "8:1234"}, 8, 12345)
    assert not is_journal({"JOURNAL_STREAM": "nonsense"}, 8, 1234)
    assert not is_journal({}, 8, 1234)


def _inherit(given_fd: int, code: str) -> tuple[int, str]:
    """Run ``code`` in a process that inherits the descriptor as its number 3; status and output."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        # a shell sets LISTEN_PID to the PID that Python will have
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.dup2(given_fd, 3)
        script = 'export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web; exec "$0" -c "$1"'
        os.execvp("sh", ["sh", "-c", script, sys.executable, code])  # noqa: S606 - exec keeps the PID
    os.close(write)
    with os.fdopen(read) as output:
        said = output.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


_TAKE = """
import os
from threadwatch.commands.service_manager import *
(one,) = take_sockets(os.environ)
print(one.getsockname(), one.get_inheritable())
"""


@pytest.mark.parametrize(
    ("family", "address"),
    [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0)), (socket.AF_UNIX, "")],
)
def test_listening_sockets_are_taken(family: int, address: str | tuple[str, int]) -> None:
    """A listening socket of each family is taken, and will not be handed on to children."""
    with socket.socket(family) as listener:
        listener.bind(address)
        listener.listen()
        assert _inherit(listener.fileno(), _TAKE) == (0, f"{listener.getsockname()} False\n")


def test_other_descriptors_are_refused(tmp_path: Path) -> None:
    """A file, a datagram socket and a connection are refused, with what the socket unit should have."""
    one, other = socket.socketpair()
    with (
        one,
        other,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        (tmp_path / "file").open("w") as file,
    ):
        for fd in (one.fileno(), datagrams.fileno(), file.fileno()):
            code, said = _inherit(fd, _TAKE)
            assert code == 1
            assert "descriptor 3 (web) is not a listening stream socket: a socket unit" in said
    assert take_sockets({}) == ()
    with pytest.raises(Unusable, match="LISTEN_FDS='many' is not a number"):
        take_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"})
