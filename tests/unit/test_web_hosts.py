"""Which names a server on a loopback address answers to (:mod:`threadwatch.web.hosts`)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadwatch.web.hosts import Hosts

HOSTS = Hosts("web1", ["Proxy.Example.org"])
LOCAL = ("127.0.0.1", 9749)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1:9749", "127.0.0.2", "10.0.0.7:80", "[::1]:9749", "[::1]"),
        *("localhost", "LOCALHOST:9749", "localhost.:9749", "demo.localhost:1"),
        *("web1", "Web1:9749", "proxy.example.org:443", ""),
    ],
)
def test_names_of_this_machine(host: str) -> None:
    """Addresses, names of this machine and allowed names are answered, in any case and with any port."""
    assert HOSTS.refusal(host, LOCAL) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9749",
        "localhost.evil.example",
        "notlocalhost",
        "127.0.0.1.nip.io",
    ],
)
def test_names_of_others(host: str) -> None:
    """Any other name is refused, in one line that has the option which allows it."""
    refusal = HOSTS.refusal(host, LOCAL)
    assert refusal is not None
    assert repr(host.partition(":")[0]) in refusal
    assert "--web.allow-host=NAME" in refusal


@pytest.mark.parametrize(
    "here", [("::1", 9749, 0, 0), ("::ffff:127.0.0.1", 9749, 0, 0), ("127.8.0.1", 1)]
)
def test_every_loopback_address(here: object) -> None:
    """All loopback addresses are protected, by IPv6 as well."""
    assert HOSTS.refusal("evil.example", here) is not None


@pytest.mark.parametrize(
    "here",
    [
        ("10.0.0.7", 9749),
        ("fe80::1%eth0", 9749, 0, 2),
        "/run/threadwatch.sock",
        b"",
        None,
        ("?", 1),
    ],
)
def test_networks_and_unix_sockets(here: object) -> None:
    """Any name is answered where requests come in over a network, or over a Unix socket."""
    assert HOSTS.refusal("monitoring.example.org", here) is None


@given(st.text())
def test_any_header(host: str) -> None:
    """Any header gives a verdict, and a refusal is one line."""
    refusal = HOSTS.refusal(host, LOCAL)
    assert refusal is None or "\n" not in refusal
