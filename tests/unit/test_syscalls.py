"""The table of system calls against the kernel's own headers."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from threadwatch.waits.syscalls import CALLS, CallKind, ways

INCLUDE = Path("/usr/include")
HEADERS = {
    "x86_64": INCLUDE / "x86_64-linux-gnu/asm/unistd_64.h",
    "aarch64": INCLUDE / "asm-generic/unistd.h",  # which is where aarch64 has its numbers from
}


def numbers(header: Path) -> Mapping[str, int]:
    """Return the calls that a header defines, with the numbers that 64-bit programs have for them."""
    assert header.exists(), f"there is no {header}: install Debian's linux-libc-dev"
    found: dict[str, str] = {}
    for name, value in re.findall(
        r"^#define __NR(3264_\w+|_\w+)[ \t]+(\w+)", header.read_text(), re.MULTILINE
    ):
        found.setdefault(name, value)  # of two definitions, the first is for 64 bits
    resolved = {name: found.get(value.removeprefix("__NR"), value) for name, value in found.items()}
    return {
        name[1:]: int(value)
        for name, value in resolved.items()
        if name.startswith("_") and value.isdecimal()
    }


@pytest.mark.parametrize(("machine", "column"), [("x86_64", 1), ("aarch64", 2)])
def test_numbers_are_the_kernels(machine: str, column: int) -> None:
    """Every number is the header's; a call is missing in the table only where the machine lacks it."""
    header = numbers(HEADERS[machine])
    assert len(header) > 250, "the header was not understood"
    newest = max(number for number in header.values() if number < 10_000)
    for call in (call for calls in CALLS.values() for call in calls):
        number = call[column]
        if isinstance(number, int) and number > newest:
            continue  # younger than the header
        assert number == header.get(call[0]), call


def test_no_number_twice() -> None:
    """Each call has one way, and no two calls share a number."""
    for column in (0, 1, 2):
        entries = [call[column] for calls in CALLS.values() for call in calls]
        known = [entry for entry in entries if entry is not None]
        assert len(known) == len(set(known))


def test_this_machine_is_known() -> None:
    """The machine that the tests run on has a table, with its own number of read(2)."""
    read = numbers(HEADERS[os.uname().machine])["read"]
    assert ways(os.uname().machine)[read] is CallKind.FD


def test_other_machines_have_no_ways() -> None:
    """Nothing is made up for machines that are not known."""
    assert not ways("riscv64")
    assert (
        sys.byteorder == "little"
    )  # as the rules of threadwatch.waits.reasons take select's sets to be
