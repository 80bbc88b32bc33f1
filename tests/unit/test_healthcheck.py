"""The image's health check: which process is the daemon, and where it is asked."""

from __future__ import annotations

import socket

import pytest

from threadwatch.commands.healthcheck import addresses, is_daemon, peer


@pytest.mark.parametrize(
    ("command", "daemon"),
    [
        ("/opt/threadwatch/bin/python3 /opt/threadwatch/bin/threadwatch serve", True),
        ("python -m threadwatch serve", True),
        ("threadwatch serve --config.file=x", True),
        ("threadwatch ps serve", False),
        ("python3 -I -S /opt/threadwatch/healthcheck.py", False),
        ("python3 shop.py serve", False),
        ("threadwatch top", False),
        ("", False),
    ],
)
def test_the_daemon_is_known_by_its_command_line(command: str, *, daemon: bool) -> None:
    """It is what runs threadwatch serve."""
    assert is_daemon(command.split(" ")) is daemon


def test_addresses_stand_in_the_command_line() -> None:
    """All of them, in both ways of writing an option."""
    given = ["threadwatch", "serve", "--web.listen-address=:1", "--web.listen-address", "unix:/a"]
    assert addresses(given) == [":1", "unix:/a"]
    assert addresses(["threadwatch", "serve", "--web.listen-address"]) == []


@pytest.mark.parametrize(
    ("address", "family", "where"),
    [
        (":9749", socket.AF_INET, ("127.0.0.1", 9749)),
        ("0.0.0.0:9749", socket.AF_INET, ("127.0.0.1", 9749)),
        ("10.1.2.3:80", socket.AF_INET, ("10.1.2.3", 80)),
        ("localhost:80", socket.AF_INET, ("localhost", 80)),
        ("[::]:9749", socket.AF_INET6, ("::1", 9749)),
        ("[fe80::1]:9749", socket.AF_INET6, ("fe80::1", 9749)),
        ("unix:/run/web.sock,mode=660", socket.AF_UNIX, "/run/web.sock"),
        ("unix:@web", socket.AF_UNIX, "\0web"),
    ],
)
def test_a_listen_address_can_be_connected_to(
    address: str, family: socket.AddressFamily, where: object
) -> None:
    """All interfaces are asked by the loopback."""
    assert peer(address) == (family, where)


def test_what_is_no_address_is_said() -> None:
    """A daemon would not have started with it."""
    with pytest.raises(OSError, match="'x' is no listen address"):
        peer("x")
