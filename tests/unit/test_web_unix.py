"""Unix listen addresses: what is understood, and what an administrator is told."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from threadwatch.errors import Unusable
from threadwatch.web.listen import bind, bound_address, parse_listen
from threadwatch.web.unix import UnixAddress, bind_unix


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/web.sock", UnixAddress("/run/web.sock", 0o660)),
        ("unix:/run/web.sock,mode=600", UnixAddress("/run/web.sock", 0o600)),
        ("unix:/run/web.sock,mode=0666", UnixAddress("/run/web.sock", 0o666)),
        ("unix:/run/a,b c", UnixAddress("/run/a,b c")),
    ],
)
def test_paths_and_modes_are_read(text: str, address: UnixAddress) -> None:
    """A path with or without a mode is understood."""
    assert parse_listen(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "unix:",
        "unix:web.sock",
        "unix:/run/",
        "unix:/run/a,mode=9",
        "unix:/run/a,mode=1777",
        "unix:/run/a\n",
        "unix:/run/a,mode=600,mode=660",
        "unix:/" + "a" * 107,
    ],
)
def test_what_is_no_path_is_answered_with_what_is(text: str) -> None:
    """One line that quotes the text and says what would be right."""
    with pytest.raises(ValueError, match=r"right is unix:/run/threadwatch/web\.sock") as caught:
        parse_listen(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_file_has_its_mode_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    """The permissions are those asked for, and bound_address() gives the path back."""
    address = UnixAddress(str(tmp_path / "web.sock"), mode)
    before = os.umask(0o077)
    try:
        with bind(address) as listener:
            assert stat.S_IMODE(os.stat(address.path).st_mode) == mode
            assert bound_address(listener, address) == address
            assert str(bound_address(listener)) == str(address)
    finally:
        os.umask(before)


def test_the_longest_path_can_be_bound(tmp_path: Path) -> None:
    """What is accepted as a path fits into the kernel's structure."""
    path = str(tmp_path / "x")
    address = parse_listen(f"unix:{path}" + "x" * (107 - len(path)))
    bind(address).close()


def test_a_path_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    """The line says whether a process listens there or the path is something else's."""
    address = UnixAddress(str(tmp_path / "web.sock"))
    with (
        bind_unix(address, 1),
        pytest.raises(Unusable, match="another process listens there: choose another path"),
    ):
        bind_unix(address, 1)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(Unusable, match="something else is there: choose another path"):
        bind_unix(UnixAddress(str(file)), 1)


def test_a_missing_directory_is_told_in_one_line(tmp_path: Path) -> None:
    """The line names the directory."""
    address = UnixAddress(str(tmp_path / "no" / "web.sock"))
    with pytest.raises(Unusable, match=re.escape(f"there is no directory {tmp_path / 'no'}")):
        bind_unix(address, 1)
