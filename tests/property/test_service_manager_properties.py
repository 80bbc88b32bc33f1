"""What a service manager sets in the environment: any text gives a value or one error."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from threadwatch.commands.service_manager import (
    is_journal,
    parse_listen_fds,
    parse_notify_socket,
    parse_watchdog,
)

VALUES = st.one_of(st.text("0179-+_x:@/\n\0²٣ ", max_size=25), st.just("7"))
NAMES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID")


@given(st.dictionaries(st.sampled_from((*NAMES, "JOURNAL_STREAM")), VALUES))
def test_any_environment_gives_a_value_or_one_error(environ: dict[str, str]) -> None:
    """Whatever the variables hold, there is a bounded value or a ValueError that names the variable."""
    assert is_journal(environ, 8, 1) in {True, False}
    try:
        assert len(parse_listen_fds(environ, 7)) <= 1024
        assert (parse_watchdog(environ, 7) or 1) > 0
    except ValueError as error:
        assert str(error).startswith(("LISTEN_", "WATCHDOG_"))  # noqa: PT017  # it may come or not


@given(VALUES)
def test_any_notify_socket_gives_an_address_or_one_error(value: str) -> None:
    """An address is a path, or begins with the NUL of an abstract socket."""
    try:
        assert parse_notify_socket(value).startswith(("/", "\0"))
    except ValueError as error:
        assert str(error).startswith("NOTIFY_SOCKET=")  # noqa: PT017  # as above
