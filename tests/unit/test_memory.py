"""Reads of targets' memory: which thread holds a GIL, and what is at an address."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable

import pytest

from tests.harness import until
from threadwatch.errors import Gone, ReadError
from threadwatch.names.slots import Gil
from threadwatch.procfs import MemoryFile, ProcFS
from threadwatch.waits.gil_holder import NOBODY, Holder, MemoryReads, find_holder
from threadwatch.waits.reasons import AskMemory

SECOND = 1_000_000_000
GIL = Gil(0x1000, 208, 16, 24)


def gil(state: int, locked: int) -> bytes:
    """Return the bytes of a GIL."""
    return struct.pack("=QQii", 5000, state, locked, 7)


def reads(*answers: bytes) -> Callable[[int, int], bytes]:
    """Memory that answers like this, one after the other."""
    rest = iter(answers)
    return lambda _address, size: next(rest)[:size]


@pytest.fixture
def memory() -> MemoryFile:
    """Return this process's own memory."""
    with ProcFS().open_process(os.getpid()) as process:
        return process.open_memory()


def test_nobody_holds_a_gil_that_is_not_locked() -> None:
    """The thread that held it last."""
    assert find_holder(reads(gil(0x2000, 0)), GIL) == NOBODY


def test_nobody_holds_the_gil_of_an_interpreter_that_has_ended() -> None:
    """CPython says so by -1, for as long as the memory is there."""
    assert find_holder(reads(gil(0x2000, -1)), GIL) == NOBODY


def test_the_holder_has_a_name_while_it_holds() -> None:
    """Ident and TID stand in its thread state, at the places that the table tells."""
    places = {
        (0x1000, 24): gil(0x2000, 1),
        (0x2010, 8): struct.pack("=Q", 1234),
        (0x2018, 8): struct.pack("=Q", 77),
    }
    assert find_holder(lambda *place: places[place], GIL) == Holder(ident=1234, native=77)


def test_a_holder_that_has_gone_is_not_named() -> None:
    """If the GIL is another's after the name was read, the next is looked at; not for ever."""
    name = struct.pack("=Q", 1)
    once = Gil(0x1000, 208, 16, 0)
    assert find_holder(reads(gil(8, 1), name, gil(16, 1), name, gil(16, 1)), once) == Holder(1, 0)
    assert find_holder(reads(gil(8, 1), name, gil(8, 0)), once) == NOBODY
    many = [data for state in (8, 16, 24, 32) for data in (gil(state, 1), name)]
    assert find_holder(reads(*many), once) is None


def test_a_thread_state_that_is_freed_meanwhile() -> None:
    """It is an error to have no name only for a thread that holds the GIL even then."""
    once = Gil(0x1000, 208, 16, 0)

    def memory(*answers: bytes) -> Callable[[int, int], bytes]:
        read = reads(*answers)

        def or_fail(address: int, size: int) -> bytes:
            if address != 0x1000:
                raise ReadError("mem", "eio")
            return read(address, size)

        return or_fail

    assert find_holder(memory(gil(8, 1), gil(8, 0)), once) == NOBODY
    with pytest.raises(ReadError, match="eio"):
        find_holder(memory(gil(8, 1), gil(8, 1)), once)


@pytest.mark.parametrize("locked", [2, -2, 1 << 24])
def test_what_is_no_gil_is_not_believed(locked: int) -> None:
    """Something else than yes or no where it says whether it is locked."""
    with pytest.raises(ReadError, match="locked should be 0 or 1"):
        find_holder(reads(gil(8, locked)), GIL)


def test_memory_is_read_where_it_is(memory: MemoryFile) -> None:
    """The bytes of an address; an error where nothing is, or no address can be."""
    text = ctypes.create_string_buffer(b"what is here")
    assert memory.read(ctypes.addressof(text), 12) == b"what is here"
    assert memory.read(ctypes.addressof(text), 0) == b""
    for address in (0, 2**63 - 8, 2**63, 2**64 - 8, -8):
        with pytest.raises(ReadError, match=r"^mem: eio"):
            memory.read(address, 8)


def test_a_job_reads_all_that_it_can(memory: MemoryFile) -> None:
    """Where one address is bad, the others are read all the same."""
    text = ctypes.create_string_buffer(gil(0, 0))
    good, bad = ctypes.addressof(text), 8
    asks = [AskMemory(((address, 8),), 0) for address in (bad, good)]
    gils = [Gil(address, 208, 0, 0) for address in (bad, good)]
    job = MemoryReads(memory, gils, asks)
    job.run()
    assert job.holders == [None, NOBODY]
    assert job.answers == [None, [struct.pack("=Q", 5000)]]
    assert job.error is not None
    assert job.error.reason == "eio"
    assert not job.gone


def test_memory_of_a_program_that_has_ended() -> None:
    """After exec, or the end, nothing is read of what comes there next."""
    reading, writing = os.pipe()
    pid = os.posix_spawn(
        "/bin/sh",
        ["sh", "-c", "read line; exec sleep 100"],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, reading, 0)],
    )
    try:
        with ProcFS().open_process(pid) as process:
            until(lambda: process.read("comm", "comm") == b"sh\n", "it is sh")
            memory = process.open_memory()
            os.write(writing, b"\n")
            until(lambda: process.read("comm", "comm") == b"sleep\n", "it is sleep")
            with pytest.raises(Gone):
                memory.read(0x1000, 8)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)
