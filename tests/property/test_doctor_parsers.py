"""The parsers that ``doctor`` has besides the daemon's: total, and true to what the kernel writes."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadwatch.errors import Malformed
from threadwatch.procfs.credentials import parse_credentials
from threadwatch.procfs.mountinfo import Mount, parse_mountinfo

STATUS = Path("/proc/self/status").read_bytes()
MOUNTS = Path("/proc/self/mountinfo").read_bytes()


@given(st.binary() | st.binary().map(lambda tail: STATUS[: len(tail) * 20] + tail))
def test_any_status_gives_credentials_or_one_error(data: bytes) -> None:
    """Any bytes are credentials or Malformed."""
    with suppress(Malformed):
        assert 0 <= parse_credentials(data).effective < 1 << 64


@given(st.binary() | st.binary().map(lambda tail: MOUNTS[: len(tail) * 9] + tail), st.text())
def test_any_mountinfo_gives_a_mount_or_none_or_one_error(data: bytes, place: str) -> None:
    """Any bytes are a list of mounts or Malformed."""
    with suppress(Malformed):
        parse_mountinfo(data, place)


def test_own_credentials() -> None:
    """The kernel's own file gives the ids that system calls give."""
    found = parse_credentials(STATUS)
    assert found.uids[:3] == os.getresuid()
    assert found.gids[:3] == os.getresgid()
    assert found.effective & ~found.permitted == 0


def test_mounts_by_place() -> None:
    """The last mount at a place counts, escapes are undone, and both lists of options are given."""
    data = (
        b"22 27 0:21 / /proc rw,relatime - proc proc rw\n"
        b"23 27 0:40 / /a\\040b\\134c rw shared:1 master:2 - tmpfs none rw,size=4k\n"
        b"24 27 0:41 / /proc ro,nosuid - proc proc rw,gid=5,hidepid=invisible\n"
    )
    options = ("ro", "nosuid", "rw", "gid=5", "hidepid=invisible")
    assert parse_mountinfo(data, "/proc") == Mount("proc", options)
    assert parse_mountinfo(data, "/a b\\c") == Mount("tmpfs", ("rw", "rw", "size=4k"))
    assert parse_mountinfo(data, "/nowhere") is None


@pytest.mark.parametrize(
    "line",
    [
        b"Uid:\t0\t0\t0\n",
        b"Uid:\t0\t0\t0\tx\n",
        b"Gid:\t-1\t0\t0\t0\n",
        b"CapEff:\t0\n",
        b"CapEff:\t00000000000000_0\n",
        b"CapPrm:\t0x00000000000000\n",
    ],
)
def test_damaged_lines_are_malformed(line: bytes) -> None:
    """A line that the kernel would not write is Malformed, not a number."""
    key = line.partition(b"\t")[0]
    lines = [line if one.startswith(key) else one for one in STATUS.splitlines(keepends=True)]
    with pytest.raises(Malformed):
        parse_credentials(b"".join(lines))
