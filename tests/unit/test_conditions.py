"""Threads that wait for a GIL are told from those that wait for a lock, with glibc and with musl."""

from __future__ import annotations

import struct
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import natives
from tests.harness import until
from threadwatch.errors import ReadError
from threadwatch.model.keys import ProcessKey
from threadwatch.names.slots import Gil
from threadwatch.procfs import ProcFS
from threadwatch.reading.reader import GuardedReader
from threadwatch.waits.conditions import waiters
from threadwatch.waits.sampler import Target, WaitSampler

SIZE = 208


@pytest.mark.parametrize("compiler", ["musl-gcc", "gcc"])
def test_waits_for_a_gil(compiler: str, tmp_path: Path) -> None:
    """Waits for either condition of a GIL are ``gil``; for another one, and on one's own stack, ``lock``."""
    errors: list[ReadError] = []
    guarded = GuardedReader()
    sampler = WaitSampler(errors, guarded)
    program = str(natives.waiters(tmp_path, compiler))
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        gil = Gil(int(process.stdout.readline(), 16), SIZE, 0, 0)
        lines = [process.stdout.readline().decode().split() for _ in range(6)]
        expected = {int(tid): what for tid, what in lines}
        assert sorted(expected.values()) == ["gil"] * 4 + ["lock"] * 2
        with ProcFS().open_process(process.pid) as directory:
            key = ProcessKey(process.pid, 1)
            target = Target(key, directory, tuple(expected), (gil,), lambda _: None, None)

            def states() -> dict[int, str]:
                sampler.sample(target, time.monotonic_ns())
                return {tid: waits.state for tid, waits in sampler.take(key).items()}

            until(lambda: states() == expected, "the waits")
            assert states() == expected
            # without its GIL all of them are locks
            target = Target(key, directory, tuple(expected), (), lambda _: None, None)
            until(lambda: set(states().values()) == {"lock"}, "locks")
        sampler.close()
        guarded.close()
        process.kill()
    assert errors == []


class _Memory:
    """Memory of words; what is not there cannot be read."""

    def __init__(self, words: dict[int, int]) -> None:
        self.words = words
        self.reads = 0

    def read(self, address: int, size: int) -> bytes:
        self.reads += 1
        found = b""
        for at in range(address, address + size, 8):
            if at not in self.words:
                raise ReadError("mem", "eio")
            found += struct.pack("=Q", self.words[at])
        return found[:size]


def _condition(at: int, head: int) -> dict[int, int]:
    return {at: 0, at + 8: head, at + 16: 1}


def test_a_list_that_is_a_circle_ends() -> None:
    """A hostile process makes a look read no more than the nodes that there are."""
    words = {**_condition(32, 1000), **_condition(120, 0)}
    words |= {1000: 0, 1008: 2000, 2000: 0, 2008: 1000}
    memory = _Memory(words)
    assert waiters(memory.read, [Gil(0, SIZE, 0, 0)]) == {1020, 2020}
    assert memory.reads < 8


@given(words=st.dictionaries(st.integers(0, 40).map(lambda n: 8 * n), st.integers(0, 2**64 - 1)))
def test_any_memory(words: dict[int, int]) -> None:
    """Any bytes give futexes, or say that the C library is not musl."""
    found = waiters(_Memory(words).read, [Gil(0, SIZE, 0, 0)])
    assert found is None or all(isinstance(one, int) for one in found)
