"""Parsers of ``/proc`` are total: any bytes give a value or Malformed, and what goes in comes out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests import fixtures
from threadwatch.errors import Malformed
from threadwatch.procfs import (
    decode_comm,
    parse_cgroup,
    parse_clock_offsets,
    parse_cmdline,
    parse_cpu_stat,
    parse_fdinfo,
    parse_io,
    parse_root,
    parse_schedstat,
    parse_stat,
    parse_status,
)

PARSERS: dict[str, Callable[[bytes], object]] = {
    "stat": parse_stat,
    "schedstat": parse_schedstat,
    "status": parse_status,
    "io": parse_io,
    "cmdline": parse_cmdline,
    "cgroup": parse_cgroup,
    "cpu.stat": parse_cpu_stat,
    "fdinfo": parse_fdinfo,
    "uid_map": parse_root,
    "timens_offsets": parse_clock_offsets,
}

U64 = st.integers(0, 2**64 - 1)
COMM = st.binary(max_size=15).filter(lambda comm: b"\0" not in comm)


def captured(name: str) -> list[bytes]:
    """Return all files of that name in the captured tree."""
    if name == "uid_map":
        return [b"         0     100000      65536\n     65536       1000          1\n"]
    if name == "cpu.stat":
        return [b"usage_usec 9\nnr_periods 7\nnr_throttled 2\nthrottled_usec 4280000\n"]
    if name == "timens_offsets":
        return [b"monotonic           0         0\nboottime         -600         0\n"]
    if name == "fdinfo":
        return [b"pos:\t0\nflags:\t02100002\nmnt_id:\t16\nino:\t1052\n"]
    return sorted({path.read_bytes() for path in fixtures.PROC.rglob(name) if path.is_file()})


@st.composite
def damaged(draw: st.DrawFn, files: list[bytes]) -> bytes:
    """Return a real file in which some bytes have been replaced, added or taken away."""
    data = draw(st.sampled_from(files))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 20)))
        new = draw(
            st.binary(max_size=8) | st.sampled_from([b"\n", b" ", b"\t", b")", b"-1", b"\0", b"_"])
        )
        data = data[:start] + new + data[end:]
    return data


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
def test_any_bytes_give_a_value_or_malformed(name: str, data: st.DataObject) -> None:
    """No other exception, whether the bytes are random or nearly right; errors carry the source."""
    raw = data.draw(st.binary(max_size=300) | damaged(captured(name)))
    refused = None
    try:
        PARSERS[name](raw)
    except Malformed as error:
        refused = (error.source, error.reason)
    assert refused in (None, (name, "malformed"))


@given(
    comm=COMM,
    state=st.sampled_from("RSDZTtXxKWPI"),
    numbers=st.lists(U64, min_size=50, max_size=50),
)
@example(comm=b") R 1 (", state="S", numbers=[1] * 50)
def test_stat_gives_back_what_the_kernel_wrote(comm: bytes, state: str, numbers: list[int]) -> None:
    """Whatever the comm, each field is the one that was written in its place."""
    fields = [
        b"",
        b"",
        state.encode(),
        *(b"%d" % n for n in numbers[3:]),
    ]  # as in the manual, from 1
    stat = parse_stat(b"%d (%b) %b\n" % (numbers[0], comm, b" ".join(fields[2:])))
    assert (stat.pid, stat.comm, stat.state) == (numbers[0], comm, state)
    taken = [
        stat.ppid,
        stat.minor_faults,
        stat.major_faults,
        stat.user_ticks,
        stat.system_ticks,
        stat.num_threads,
        stat.start_ticks,
        stat.last_cpu,
    ]
    assert taken == [numbers[field - 1] for field in (4, 10, 12, 14, 15, 20, 22, 39)]


@given(numbers=st.tuples(U64, U64, U64))
def test_schedstat_gives_back_what_the_kernel_wrote(numbers: tuple[int, int, int]) -> None:
    """Three numbers of up to 64 bits."""
    assert parse_schedstat(b"%d %d %d\n" % numbers) == numbers


@given(comm=COMM, uids=st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=4))
@example(comm=b"a\nUid:\t0\t0\t0\t0", uids=[1, 2, 3, 4])
@example(comm=b"\\n\\\\\\", uids=[1, 2, 3, 4])
def test_no_name_changes_another_line_of_status(comm: bytes, uids: list[int]) -> None:
    """Whatever a process calls itself, its user IDs are those that the kernel wrote."""
    name = comm.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")  # as string_escape_str() in fs/proc
    rest = "\nUid:\t" + "\t".join(map(str, uids)) + "\nThreads:\t3\n"
    status = parse_status(b"Name:\t" + name + rest.encode())
    assert list(status.uids) == uids


@given(
    arguments=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
)
def test_cmdline_gives_back_the_arguments(arguments: list[str]) -> None:
    """Arguments of any characters come back; of a lone one, blanks at its end are padding."""
    data = b"".join(argument.encode() + b"\0" for argument in arguments)
    if len(arguments) == 1:
        stripped = arguments[0].rstrip(" ")
        arguments = [stripped] if stripped else []
    assert parse_cmdline(data) == tuple(arguments)


@given(data=st.binary(max_size=64))
def test_text_can_always_be_encoded(data: bytes) -> None:
    """No lone surrogates: whatever was decoded can be written as UTF-8."""
    decode_comm(data).encode()
    "".join(parse_cmdline(data)).encode()


@given(text=st.text(max_size=40), cut=st.integers(0, 15))
def test_comm_keeps_every_whole_character(text: str, cut: int) -> None:
    """A name that the kernel has cut anywhere is the name's beginning, and a mark where one was cut."""
    raw = text.encode()[:cut]
    whole = raw.decode("utf-8", "ignore")
    assert decode_comm(raw) == whole + ("\ufffd" if whole.encode() != raw else "")
