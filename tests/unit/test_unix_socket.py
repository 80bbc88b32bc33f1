"""Unix sockets that listen: whose file is replaced, and which are left alone."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import ExitStack
from pathlib import Path

import pytest

from threadwatch.sockets import unix_socket

MODE = 0o600
KINDS = [
    pytest.param(socket.SOCK_STREAM, id="stream"),
    pytest.param(socket.SOCK_SEQPACKET, id="seqpacket"),
]


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Return a path for a socket."""
    return str(tmp_path / "daemon.sock")


def kill_a_daemon(path: str, kind: socket.SocketKind) -> None:
    """Leave the file of a socket whose process has ended."""
    with socket.socket(socket.AF_UNIX, kind) as killed:
        killed.bind(path)
        killed.listen(1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before", KINDS)
def test_the_file_of_a_killed_daemon_is_replaced(
    path: str, before: socket.SocketKind, kind: socket.SocketKind
) -> None:
    """The new socket listens, has its mode, and does not block, whatever the kind of the old one."""
    kill_a_daemon(path, before)
    with (
        unix_socket.listen(path, kind, MODE, 1) as listener,
        socket.socket(socket.AF_UNIX, kind) as client,
    ):
        assert stat.S_IMODE(os.stat(path).st_mode) == MODE
        with pytest.raises(BlockingIOError):
            listener.accept()
        client.connect(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("theirs", KINDS)
def test_a_socket_in_use_is_left_alone(
    path: str, theirs: socket.SocketKind, kind: socket.SocketKind
) -> None:
    """The path of a living daemon is its own, whether it accepts at once or its queue is full."""
    connected = 0
    with unix_socket.listen(path, theirs, MODE, 0), ExitStack() as clients:
        while connected != errno.EAGAIN:
            with pytest.raises(OSError, match="in use") as caught:
                unix_socket.listen(path, kind, MODE, 1)
            assert caught.value.errno == errno.EADDRINUSE
            unix_socket.remove(path)
            assert os.path.exists(path)
            client = socket.socket(socket.AF_UNIX, theirs | socket.SOCK_NONBLOCK)
            connected = clients.enter_context(client).connect_ex(path)
    assert unix_socket.occupant(path) == "another process listens there"


@pytest.mark.parametrize("name", ["file", "link"])
def test_another_file_is_left_alone(tmp_path: Path, name: str) -> None:
    """A file at the path is never removed, nor is what a link there points at."""
    file = tmp_path / "file"
    file.write_text("precious")
    (tmp_path / "link").symlink_to(file)
    path = str(tmp_path / name)
    with pytest.raises(OSError, match="in use"):
        unix_socket.listen(path, socket.SOCK_STREAM, MODE, 1)
    assert unix_socket.occupant(path) == "something else is there"
    unix_socket.remove(path)
    assert Path(path).read_text() == "precious"


def test_a_link_to_the_file_of_a_killed_daemon_is_left_alone(path: str, tmp_path: Path) -> None:
    """A link is something that a person has made: neither the link nor the file is removed."""
    kill_a_daemon(path, socket.SOCK_STREAM)
    link = tmp_path / "link"
    link.symlink_to(path)
    unix_socket.remove(str(link))
    assert link.is_symlink()
    assert os.path.exists(path)


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_of_a_closed_socket_is_removed(path: str, kind: socket.SocketKind) -> None:
    """A daemon that ends leaves nothing at the path; a path with nothing there is no error."""
    unix_socket.listen(path, kind, MODE, 1).close()
    unix_socket.remove(path)
    assert not os.path.exists(path)
    unix_socket.remove(path)
