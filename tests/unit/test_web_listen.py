"""Listen addresses: what is understood, and what an administrator is told where it cannot be used."""

from __future__ import annotations

import re
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import DEADLINE, reserved_port
from tests.testbed import CHECKOUT
from threadwatch.errors import Unusable
from threadwatch.web.listen import Address, bind, bound_address, parse_listen_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9749", Address("127.0.0.1", 9749)),
        ("localhost:80", Address("localhost", 80)),
        ("metrics-1.example.org:9749", Address("metrics-1.example.org", 9749)),
        ("[::1]:9749", Address("::1", 9749)),
        ("[fe80::1%eth0]:9749", Address("fe80::1%eth0", 9749)),
        (":9749", Address("", 9749)),
        (":0", Address("", 0)),
        ("0.0.0.0:65535", Address("0.0.0.0", 65535)),  # noqa: S104 - it is only read
    ],
)
def test_addresses_are_read_and_written_alike(text: str, address: Address) -> None:
    """Each form is understood, and str() gives it back."""
    assert parse_listen_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "not host:port"),
        ("9749", "not host:port"),
        ("localhost", "not host:port"),
        ("localhost:http", "not host:port"),
        ("local host:1", "not host:port"),
        ("host:-1", "not host:port"),
        ("host:٣", "not host:port"),
        ("host:1\n", "not host:port"),
        ("::1:9749", "needs brackets"),
        ("::1", "needs brackets"),
        ("http://localhost:9749", "not host:port"),
        ("[]:9749", "no IPv6 address"),
        ("[localhost]:9749", "no IPv6 address"),
        ("[127.0.0.1]:9749", "no IPv6 address"),
        ("[::1]", "needs brackets"),
        ("host:65536", "at most 65535"),
        ("host:99999", "at most 65535"),
    ],
)
def test_what_is_no_address_is_answered_with_what_is(text: str, hint: str) -> None:
    """One line that quotes the text, says what is wrong and what would be right."""
    with pytest.raises(ValueError, match=re.escape(hint)) as caught:
        parse_listen_address(text)
    message = str(caught.value)
    assert message.startswith(f"listen address {text!r}: ")
    assert "127.0.0.1:9749" in message
    assert "\n" not in message


@given(st.text())
def test_any_text_is_an_address_or_one_error(text: str) -> None:
    """Nothing but an Address or a ValueError comes out, and an Address is what was written."""
    try:
        address = parse_listen_address(text)
    except ValueError:
        return
    assert parse_listen_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "client"),
    [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), (":0", "127.0.0.1"), (":0", "::1")],
)
def test_bound_addresses_accept_connections(text: str, client: str) -> None:
    """A bound address listens, on the port that it says, for each version of IP that it covers."""
    asked = parse_listen_address(text)
    with bind(asked) as listener:
        bound = bound_address(listener, asked)
        assert isinstance(bound, Address)
        port = bound.port
        assert port != 0
        socket.create_connection((client, port), timeout=DEADLINE).close()


def test_a_host_name_stands_for_its_ipv4_address() -> None:
    """A name that has addresses of both versions is bound to the IPv4 one."""
    asked = parse_listen_address("localhost:0")
    with bind(asked) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
        assert bound_address(listener, asked) == Address("localhost", listener.getsockname()[1])


def test_a_port_can_be_bound_again_at_once() -> None:
    """A restart does not have to wait for old connections to be forgotten."""
    with reserved_port() as port:
        with bind(Address("127.0.0.1", port)) as first:
            client = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
            accepted, _ = first.accept()
            accepted.close()  # our side closes first, so the kernel remembers the connection
            client.close()
        bind(Address("127.0.0.1", port)).close()


def test_a_port_in_use_is_told_in_one_line() -> None:
    """The line has the address, that it is in use, and what to do."""
    with bind(Address("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(Unusable) as caught:
            bind(Address("127.0.0.1", port))
    message = str(caught.value)
    assert message.startswith(f"cannot listen on 127.0.0.1:{port}: the port is in use: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (Address("192.0.2.1", 0), "this machine has no such address"),
        (Address("no-such-host.invalid", 0), ""),
        (Address("x" * 300, 0), ""),
        (Address("fe80::1%nowhere", 0), ""),
    ],
)
def test_an_address_that_is_not_ours_is_told_in_one_line(address: Address, why: str) -> None:
    """Addresses of other machines and unknown names are Unusable, with the reason."""
    with pytest.raises(Unusable, match=re.escape(f"cannot listen on {address}: {why}")) as caught:
        bind(address)
    assert "\n" not in str(caught.value)


PROGRAM = """
from threadwatch.errors import Unusable
from threadwatch.web.listen import Address, bind
try:
    bind(Address("", 81))
except Unusable as error:
    print(error)
"""


def test_a_privileged_port_is_told_in_one_line() -> None:
    """Without the capability for it, a port below 1024 says which one it is, and what to choose."""
    # the limit can be lower on a machine; in a network namespace of its own it is the kernel's default
    without = ("unshare", "--net", "setpriv", "--bounding-set", "-net_bind_service")
    done = subprocess.run(
        [*without, sys.executable, "-c", PROGRAM],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "cannot listen on :81: not permitted: ports below 1024 need CAP_NET_BIND_SERVICE,"
        " so choose one above\n"
    )
