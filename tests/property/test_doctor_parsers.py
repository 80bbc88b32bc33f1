"""The parsers that ``doctor`` has besides the daemon's: total, and true to what the kernel writes."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadwatch.errors import Malformed
from threadwatch.procfs.credentials import parse_credentials
from threadwatch.procfs.environ import parse_environ
from threadwatch.procfs.limits import parse_file_limits
from threadwatch.procfs.maps import parse_maps
from threadwatch.procfs.mountinfo import Mount, parse_mountinfo

LIMITS = Path("/proc/self/limits").read_bytes()
MAPS = Path("/proc/self/maps").read_bytes()
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


@given(st.binary())
def test_any_bytes_are_an_environment_or_none(data: bytes) -> None:
    """Any bytes are the variables of an environment, or what has been written over one."""
    found = parse_environ(data)
    assert found is None or all(found)


@given(st.binary() | st.binary().map(lambda tail: MAPS[: len(tail) * 30] + tail))
def test_any_maps_give_files(data: bytes) -> None:
    """Any bytes are a list of mapped files, which may be empty."""
    assert all(path.startswith("/") for path in parse_maps(data))


@given(st.binary() | st.binary().map(lambda tail: LIMITS[: len(tail) * 30] + tail))
def test_any_limits_give_numbers_or_one_error(data: bytes) -> None:
    """Any bytes are limits of files or Malformed."""
    with suppress(Malformed):
        assert all(limit is None or limit >= 0 for limit in parse_file_limits(data))


def test_own_environment_files_and_limits() -> None:
    """The kernel's own files give what this process knows of itself."""
    environ = parse_environ(Path("/proc/self/environ").read_bytes())
    assert environ is not None
    assert "PATH" in environ
    assert os.path.realpath(sys.executable) in parse_maps(MAPS)
    soft = [
        resource.getrlimit(limit)[0] for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)
    ]
    assert parse_file_limits(LIMITS) == tuple(None if one < 0 else one for one in soft)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", {}),
        (b"A=1\0B=\0A=2\0", {"A": "1", "B": ""}),
        (b"\0\0\0\0", None),
        (b"shop: worker 3\0\0\0", None),
        (b"=1\0", None),
    ],
)
def test_environments(data: bytes, found: dict[str, str] | None) -> None:
    """The first of two counts, and a title that has been written over it is none."""
    assert parse_environ(data) == found
