"""``/proc/PID/task/TID/syscall``: what it says, and what is not believed."""

from __future__ import annotations

import pytest

from threadwatch.errors import Malformed
from threadwatch.procfs import RUNNING, Syscall, parse_syscall

FUTEX = (
    b"202 0x7f92dc000ba0 0x189 0x0 0x0 0x0 0xffffffff 0x7f92e69828c0 0x7f92e7ca3f16\n"  # Linux 6.18
)


def test_a_call_with_its_arguments() -> None:
    """A blocked thread: the call's number, six arguments, and where it stands."""
    assert parse_syscall(FUTEX) == Syscall(
        202, (0x7F92DC000BA0, 0x189, 0, 0, 0, 0xFFFFFFFF), 0x7F92E69828C0, 0x7F92E7CA3F16
    )


def test_no_call() -> None:
    """A thread in a page fault or a stop has no arguments."""
    assert parse_syscall(b"-1 0x7f0edf2a7858 0x7f0edff81954\n") == Syscall(
        -1, (), 0x7F0EDF2A7858, 0x7F0EDFF81954
    )


def test_running() -> None:
    """A thread that runs is in no call."""
    assert parse_syscall(RUNNING) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"running",
        b"running\n\n",
        FUTEX[:-1],
        FUTEX + FUTEX,
        FUTEX.replace(b" 0x189", b""),
        FUTEX.replace(b"0x189", b"189"),
        FUTEX.replace(b"0x189", b"0x1_8"),
        FUTEX.replace(b"0x189", b"0X189"),
        FUTEX.replace(b"0x189", b"0x"),
        FUTEX.replace(b"0x189", b"0x12345678901234567"),
        FUTEX.replace(b"202", b"-1"),
        FUTEX.replace(b"202", b"+2"),
        b"1 0x7f0edf2a7858 0x7f0edff81954\n",
        b"-0 0x7f0edf2a7858 0x7f0edff81954\n",
    ],
)
def test_anything_else_is_malformed(data: bytes) -> None:
    """A line that is cut, longer, or of another form is not half believed."""
    with pytest.raises(Malformed, match=r"^syscall: malformed: "):
        parse_syscall(data)
