"""Tables that are handed over: what the receiver takes, what it refuses, and how much it keeps."""

from __future__ import annotations

import array
import fcntl
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.harness import until
from threadwatch.errors import Unusable
from threadwatch.handover.inbox import Inbox
from threadwatch.handover.listen import Handover, default_path, listen
from threadwatch.handover.receiver import Receiver
from threadwatch.model.keys import HandoverResult
from threadwatch.procfs import ProcFS
from threadwatch.publisher import layout
from threadwatch.publisher.handover import hand_over
from threadwatch.publisher.memfd import Table


class Receiving:
    """A receiver in this process, and what it has received."""

    def __init__(self, path: Path, *, most: int = 64) -> None:
        self.path = str(path)
        self.inbox = Inbox(most)
        self._handover = Handover(self.path, self.inbox)

    def count(self, result: HandoverResult) -> int:
        """Return how many tables have had this result."""
        return (self.inbox.results() or {})[result]

    def connect(self) -> socket.socket:
        """Return a connection to it."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(self.path)
        return connection

    def send(self, *fds: int, message: bytes = layout.MAGIC) -> None:
        """Send descriptors in one message."""
        with self.connect() as connection:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            connection.sendmsg([message], rights if fds else [])

    def close(self) -> None:
        """Receive no more."""
        self._handover.stop()
        self.inbox.close()


@pytest.fixture
def receiving(tmp_path: Path) -> Iterator[Receiving]:
    """Receive in this process."""
    with closing(Receiving(tmp_path / "publish.socket")) as receiving:
        yield receiving


@pytest.fixture
def table() -> Iterator[Table]:
    """Give a table of this process."""
    table = Table(flags=0, interpreter=0, implementation="cpython", hexversion=sys.hexversion)
    yield table
    table.close()


@pytest.fixture
def descriptors() -> Iterator[Callable[[], set[int]]]:
    """Give what tells this process's descriptors; there must be as many at the end."""

    def now() -> set[int]:
        return {int(name) for name in os.listdir("/proc/self/fd")}

    before = len(now())
    yield now
    until(lambda: len(now()) == before, "no descriptor is left")


def test_a_table_is_received(
    descriptors: Callable[[], set[int]],
    receiving: Receiving,
    table: Table,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a publisher sends comes with its PID and user, can be read, and ends with the publisher's own."""
    before = descriptors()
    monkeypatch.setenv("THREADWATCH_SOCKET", receiving.path)
    assert hand_over(table.descriptor, may_import=False)
    until(lambda: receiving.inbox.senders() == {os.getpid()}, "it has come")
    (handed,) = receiving.inbox.take(os.getpid())
    with handed.file as file:
        assert (handed.pid, handed.uid) == (os.getpid(), os.geteuid())
        assert file.inode == os.fstat(table.descriptor).st_ino
        assert file.read_header() == bytes(table._map[: layout.HEADER_SIZE])
        until(lambda: len(descriptors()) == len(before) + 1, "only what is read is open")
        assert file.is_locked()
        table.close()
        del table._map
        assert not file.is_locked()


def pipe(_: Path) -> int:
    """Return an end of a pipe."""
    read, write = os.pipe()
    os.close(write)
    return read


def memfd(*, seals: int = 0, size: int = 1 << 12) -> int:
    """Return a memfd that is no table."""
    fd = os.memfd_create(layout.NAME, os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def fifo(directory: Path) -> int:
    """Return a named pipe, which a reader would wait for."""
    os.mkfifo(directory / "fifo")
    return os.open(directory / "fifo", os.O_RDWR)


def place_of_memfd(_: Path) -> int:
    """Return a memfd that is open as a mere place."""
    fd = memfd(seals=7)
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_PATH)
    finally:
        os.close(fd)


def regular(directory: Path) -> int:
    """Return an ordinary file."""
    return os.open(directory / "file", os.O_RDWR | os.O_CREAT)


OTHERS: dict[str, Callable[[Path], int]] = {
    "pipe": pipe,
    "fifo": fifo,
    "directory": lambda directory: os.open(directory, os.O_RDONLY),
    "device": lambda _: os.open("/dev/zero", os.O_RDWR),
    "terminal": lambda _: os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY),
    "place of a memfd": place_of_memfd,
    "memfd that can grow": lambda _: memfd(seals=1 | 2),
    "memfd without seals": lambda _: memfd(),
    "huge pages": lambda _: os.memfd_create(layout.NAME, os.MFD_ALLOW_SEALING | os.MFD_HUGETLB),
    "file": regular,
    "socket": lambda _: socket.socket().detach(),
    "event": lambda _: os.eventfd(0),
    "process": lambda _: os.pidfd_open(os.getpid()),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_files_are_refused(
    kind: str, descriptors: Callable[[], set[int]], receiving: Receiving, tmp_path: Path
) -> None:
    """Whatever is no sealed memfd is closed unread, and counted."""
    assert descriptors()
    fd = OTHERS[kind](tmp_path)
    receiving.send(fd)
    os.close(fd)
    until(lambda: receiving.count("invalid") == 1, "it is refused")
    assert receiving.inbox.senders() == set()


def test_messages_that_are_none(
    descriptors: Callable[[], set[int]], receiving: Receiving, table: Table
) -> None:
    """Other words, no descriptor, and many descriptors: at most one is received, and none is left."""
    before = descriptors()
    receiving.send(table.descriptor, message=b"something")
    receiving.send(table.descriptor, message=layout.MAGIC + b"!")
    receiving.send()
    until(lambda: receiving.count("invalid") == 3, "they are refused")
    receiving.send(*[table.descriptor] * 253)
    until(lambda: receiving.inbox.senders() == {os.getpid()}, "the first one of many is received")
    until(lambda: len(descriptors()) == len(before) + 1, "and no other")


def test_silence_is_ended(descriptors: Callable[[], set[int]], receiving: Receiving) -> None:
    """Connections on which nothing comes are closed, and are few: half of all are one user's."""
    with ExitStack() as stack:
        connections = [stack.enter_context(receiving.connect()) for _ in range(40)]
        until(lambda: receiving.count("too_many") == 8, "no more than 32 of one user are awaited")
        until(lambda: receiving.count("silent") == 32, "nor for ever")
        assert all(connection.recv(1) == b"" for connection in connections)
    receiving.connect().close()
    until(lambda: receiving.count("silent") == 33, "nor are those that end at once")
    assert descriptors()


def test_a_late_table_is_received(
    descriptors: Callable[[], set[int]], receiving: Receiving, table: Table
) -> None:
    """A process may take its time between connecting and sending: others are served meanwhile."""
    assert descriptors()
    with receiving.connect() as late:
        receiving.send()
        until(lambda: receiving.count("invalid") == 1, "another one is served")
        socket.send_fds(late, [layout.MAGIC], [table.descriptor])
        until(lambda: receiving.inbox.senders() == {os.getpid()}, "it has come")


LINGERS = """
import socket, struct, sys
one = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
one.setblocking(False)
try:
    while True:
        one.send(bytes(1 << 16))
except BlockingIOError:
    pass
one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 1000))
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as daemon:
    daemon.connect(sys.argv[2])
    socket.send_fds(daemon, [b"thrdwtch"], [one.fileno()])
"""
"""Sends a connection whose last close waits for its other end."""


def test_a_file_that_cannot_be_closed(
    table: Table, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A descriptor whose close waits for ever costs a thread, and is told; its user is refused meanwhile."""
    path = tmp_path / "publish.socket"
    inbox = Inbox(8)
    receiver = Receiver(listen(str(path)), inbox)
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        # It ends before anything is received, so the last close is the receiver's.
        subprocess.run([sys.executable, "-c", LINGERS, port, str(path)], check=True, timeout=60)
        other, _ = server.accept()
    receiver.start()

    def hung() -> int:
        return (inbox.results() or {})["hung"]

    until(lambda: hung() == 1, "it has made a thread wait")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(str(path))
        socket.send_fds(connection, [layout.MAGIC], [table.descriptor])
    until(lambda: hung() == 2, "its user is refused")
    assert "makes us wait" in caplog.text
    threads = set(threading.enumerate()) - before
    assert len(threads) == 3, "one that receives, one that reads, one that waits"
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    other.close()
    until(lambda: sum(thread.is_alive() for thread in threads) == 2, "the thread has come back")
    receiver.stop()


def test_the_inbox_keeps_few_of_one_user() -> None:
    """Of one user's tables half of what all others leave is kept; the rest is closed, and counted."""
    inbox = Inbox(8)
    inbox.receiving = True
    with ProcFS().open_process(os.getpid()) as process, ExitStack() as stack:
        table = Table(flags=0, interpreter=0, implementation="cpython", hexversion=sys.hexversion)
        stack.callback(table.close)
        before = len(os.listdir("/proc/self/fd"))
        for pid, uid in [*((100 + n, 1) for n in range(6)), *((200 + n, 2) for n in range(6))]:
            inbox.put(pid, uid, process.open_table(table.descriptor))
        assert inbox.senders() == {100, 101, 102, 103, 200, 201}
        assert (inbox.results() or {})["too_many"] == 6
        assert len(os.listdir("/proc/self/fd")) == before + 6
        inbox.drop(100, "ended")
        inbox.put(300, 2, process.open_table(table.descriptor))
        assert 300 in inbox.senders()
        for _ in range(40):
            inbox.put_off(200)
        assert 200 not in inbox.senders()
        inbox.close()
        assert len(os.listdir("/proc/self/fd")) == before


def test_no_room_without_a_receiver() -> None:
    """Where nothing is received, there are no results: the metric is absent."""
    assert Inbox(0).results() is None
    assert Inbox()._most <= max(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 16, 1)


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({}, "/run/threadwatch/publish.socket"),
        ({"RUNTIME_DIRECTORY": "/run/threadwatch@shop"}, "/run/threadwatch@shop/publish.socket"),
        ({"RUNTIME_DIRECTORY": "/run/one:/run/two"}, "/run/one/publish.socket"),
    ],
)
def test_default_path(environ: dict[str, str], path: str) -> None:
    """The socket is in the directory that the service manager has made for the daemon."""
    assert default_path(environ) == path


def test_a_path_that_cannot_be_listened_at(tmp_path: Path) -> None:
    """One line names the path and what is there; a daemon that ends takes its own socket away."""
    path = tmp_path / "publish.socket"
    with closing(Receiving(path)):
        assert path.stat().st_mode & 0o777 == 0o666
        with pytest.raises(Unusable, match=f"{path}: another process listens there"):
            Receiving(path)
    assert not path.exists()
    path.touch()
    with pytest.raises(Unusable, match=f"{path}: something else is there"):
        Receiving(path)
    with pytest.raises(Unusable, match="No such file or directory"):
        Receiving(tmp_path / "nowhere" / "publish.socket")
