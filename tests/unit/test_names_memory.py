"""Reading names from memory: layouts by version, and that no bytes break it, whatever they lead to."""

from __future__ import annotations

import ctypes
import os
import random
import struct
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import until
from tests.names_outside import Unlimited, confirm
from threadwatch.errors import Gone, Malformed, ReadError, Unsupported
from threadwatch.names.memory.chain import MOST_CHARACTERS
from threadwatch.names.memory.following import Following
from threadwatch.names.memory.images import find_images, parse_auxv, parse_segments
from threadwatch.names.memory.interpreter import FIRST_LOOK, find_python
from threadwatch.names.memory.objects import int_digits, parse_digits, parse_keys, parse_str
from threadwatch.names.memory.offsets import COOKIE, parse_described, parse_head, tabled
from threadwatch.names.memory.snapshot import PAGE, Memory, Place, Snapshot
from threadwatch.names.memory.walk import Python
from threadwatch.procfs import MemoryFile

SIZES = {13: 584, 14: 760, 15: 888}
ALL = (*(tabled(minor) for minor in range(9, 13)),)


def described(minor: int, fill: int, *, free_threaded: int = 0) -> bytes:
    """Return a ``_Py_DebugOffsets`` of that version, whose offsets are all the same."""
    head = COOKIE + struct.pack("<QQ", 0x03000000 | minor << 16 | 0x0F0, free_threaded)
    return head + struct.pack("<Q", fill) * ((SIZES[minor] - len(head)) // 8)


class Arena:
    """A memory of some pages, whose words lead to each other: lists without an end, lengths that lie."""

    def __init__(self, seed: int) -> None:
        chosen = random.Random(seed)
        self.base, pages = 0x10000, 8
        words = [0, 1, 2, 5000, 1 << 40, (1 << 64) - 1, int.from_bytes(COOKIE, "little")]
        end = self.base + pages * PAGE
        self._data = b"".join(
            struct.pack(
                "<Q",
                chosen.randrange(self.base, end, 8)
                if chosen.random() < 0.8
                else chosen.choice(words),
            )
            for _ in range(pages * PAGE // 8)
        )
        self.reads = 0

    def read(self, address: int, size: int) -> bytes:
        """Read, as a memory does."""
        self.reads += 1
        at = address - self.base
        if not 0 <= at <= len(self._data) - size:
            raise ReadError("mem", "eio", "nothing is mapped there")
        return self._data[at : at + size]

    def read_each(self, places: Sequence[Place]) -> list[bytes]:
        """Read, as a memory does."""
        contents = []
        for place in places:
            try:
                contents.append(self.read(*place))
            except ReadError:
                contents.append(b"")
        return contents


class Damaged:
    """A memory, by default this process's own, of which some bytes are others than they are."""

    def __init__(self, seed: int, share: float, memory: Memory | None = None) -> None:
        self._memory = memory or MemoryFile(os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC))
        self._random = random.Random(seed)
        self._share = share
        self.reads = 0

    def read(self, address: int, size: int) -> bytes:
        """Return what is there, with some words changed."""
        self.reads += 1
        return self._harm(self._memory.read(address, size))

    def read_each(self, places: Sequence[Place]) -> list[bytes]:
        """Return what is there, with some words changed."""
        self.reads += len(places)
        return [self._harm(data) for data in self._memory.read_each(places)]

    def _harm(self, data: bytes) -> bytes:
        chosen = self._random
        if chosen.random() >= self._share or len(data) < 8:
            return data
        harmed = bytearray(data)
        for _ in range(max(len(data) // 256, 1)):
            at = chosen.randrange(0, len(data) - 7)
            new = chosen.choice(
                [chosen.getrandbits(64), chosen.getrandbits(8), 0, id(chosen), (1 << 64) - 1]
            )
            harmed[at : at + 8] = struct.pack("<Q", new)
        return bytes(harmed)


def auxv_of(address: int, count: int) -> bytes:
    """Return an auxiliary vector that tells of this many program headers at an address."""
    return struct.pack("<6Q", 3, address, 5, count, 0, 0)


@pytest.mark.parametrize("minor", SIZES)
def test_each_version_has_its_own_description(minor: int) -> None:
    """The size of the description follows the version, and cut short it is refused."""
    data = described(minor, 16)
    assert parse_head(data) == len(data)
    offsets, version = parse_described(data)
    assert (offsets.minor, version >> 16) == (minor, 0x300 | minor)
    with pytest.raises(Malformed):
        parse_described(data[:-8])


@pytest.mark.parametrize("minor", [0, 8, 12, 16, 255])
def test_unknown_versions_are_refused(minor: int) -> None:
    """A version that is not known is never guessed at, and the error says which are."""
    head = COOKIE + struct.pack("<QQ", 0x03000000 | minor << 16, 0)
    with pytest.raises(Unsupported, match=rf"3\.{minor} is not known: 3\.9 to 3\.15 are"):
        parse_head(head)
    with pytest.raises(Unsupported):
        tabled(minor if minor != 12 else 16)


def test_free_threaded_builds() -> None:
    """What free-threaded builds have in each object moves what is not described, too."""
    plain, _ = parse_described(described(14, 32))
    free, _ = parse_described(described(14, 32, free_threaded=1))
    assert (plain.str_bits, free.str_bits) == (2, 8)
    assert (plain.gil_start, free.gil_start) == (0, 8)
    assert (plain.managed_dict, free.managed_dict) == (-24, -8)


@given(data=st.binary(max_size=900))
def test_any_bytes_are_a_description_or_malformed(data: bytes) -> None:
    """The first bytes of a runtime give offsets, or an error of ours."""
    for start in (b"", COOKIE, described(13, 8)[:24], described(15, 8)[:24]):
        with suppress(ReadError):
            parse_head(start + data)
        with suppress(ReadError):
            parse_described(start + data)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_objects_or_malformed(data: bytes) -> None:
    """The bytes of keys, ints and strs give values, or an error of ours."""
    for offsets in (*ALL, parse_described(described(15, 16))[0]):
        with suppress(Malformed):
            keys = parse_keys(offsets, data)
            assert keys.end >= keys.entries
            keys.pairs(data)
        with suppress(Malformed):
            assert 0 <= int_digits(offsets, data) <= 3
        with suppress(Malformed):
            parse_digits(data)
        with suppress(Malformed):
            text = parse_str(offsets, data)
            text.decode(data[: len(data) // text.kind * text.kind])


@given(data=st.binary(max_size=300))
def test_any_bytes_are_headers_or_malformed(data: bytes) -> None:
    """An auxiliary vector and program headers of any bytes give values, or an error of ours."""
    with suppress(Malformed):
        parse_auxv(data)
    parse_segments(data)


@pytest.mark.parametrize("seed", range(60))
def test_memory_that_leads_in_circles(seed: int) -> None:
    """Lists without an end and lengths that lie give an error of ours, after few reads."""
    arena = Arena(seed)
    for count in (1, 60):
        memory = Snapshot(arena, FIRST_LOOK)
        auxv = auxv_of(arena.base + 64, count)
        with suppress(ReadError):
            find_images(memory, auxv)
        with suppress(ReadError):
            find_python(memory, auxv, 1)
    assert arena.reads < FIRST_LOOK


def own_python() -> tuple[MemoryFile, bytes]:
    """Return this process's memory and auxiliary vector."""
    memory = MemoryFile(os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC))
    return memory, Path("/proc/self/auxv").read_bytes()


def python_of_tests() -> Python:
    """Return the Python that runs the tests."""
    memory, auxv = own_python()
    return find_python(Snapshot(memory, FIRST_LOOK), auxv, os.getpid())


def test_our_own_python_is_found() -> None:
    """The Python that runs the tests is found in its own memory, and is what it says of itself."""
    python = python_of_tests()
    assert python.hexversion == sys.hexversion
    assert python.runtime == ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime"))
    assert (python.dict_type, python.str_type, python.int_type) == (id(dict), id(str), id(int))


@pytest.mark.parametrize("seed", range(40))
def test_damaged_memory(seed: int) -> None:
    """Whatever words of a real Python's memory are changed, errors are ours, and reads are bounded."""
    _, auxv = own_python()
    threads = {threading.get_native_id(): 1, os.getpid(): 1}
    memory = Damaged(seed, 0.02)
    with suppress(ReadError, Gone):
        find_python(Snapshot(memory, FIRST_LOOK), auxv, os.getpid())
    whole, _ = own_python()
    python = find_python(Snapshot(whole, FIRST_LOOK), auxv, os.getpid())
    following = Following(python, os.getpid())
    for _ in range(20):
        with suppress(ReadError, Gone):
            following.update(memory, threads, (), Unlimited())
    assert memory.reads < 20 * FIRST_LOOK


def ask(following: Following, memory: MemoryFile, threads: dict[int, int]) -> dict[int, str]:
    """Return the names that are told after three readings."""
    following.update(memory, threads, (), Unlimited())
    confirm(following, memory, threads)
    told = {tid: following.name_of(tid, start) for tid, start in threads.items()}
    return {tid: name.name for tid, name in told.items() if name is not None}


def followed() -> tuple[Following, MemoryFile]:
    """Return the names of this process's own threads."""
    memory, auxv = own_python()
    python = find_python(Snapshot(memory, FIRST_LOOK), auxv, os.getpid())
    return Following(python, os.getpid()), memory


def test_nothing_is_told_before_the_third_reading() -> None:
    """After two readings a name is pending, and is not told."""
    following, memory = followed()
    threads = {os.getpid(): 7}
    following.update(memory, threads, (), Unlimited())
    assert following.pending
    assert following.name_of(os.getpid(), 7) is None

    def told() -> str | None:
        following.update(memory, threads, (), Unlimited())
        name = following.name_of(os.getpid(), 7)
        return None if name is None else name.name

    until(lambda: told() == threading.main_thread().name, "the name of the main thread")
    assert following.take_changed() == {os.getpid()}
    assert not following.take_changed()


def test_a_name_is_for_one_thread_not_for_a_tid() -> None:
    """A thread with the same TID and another start time has no name until that has been read of it."""
    following, memory = followed()
    assert ask(following, memory, {os.getpid(): 7})
    assert following.name_of(os.getpid(), 8) is None
    following.update(memory, {os.getpid(): 8}, (), Unlimited())
    assert following.name_of(os.getpid(), 7) is following.name_of(os.getpid(), 8) is None
    assert ask(following, memory, {os.getpid(): 8})


def test_threads_that_the_kernel_does_not_list_have_no_name() -> None:
    """What Python calls a thread is told of threads of the kernel's alone."""
    following, memory = followed()
    assert ask(following, memory, {1 << 22: 7}) == {}


def test_a_name_outlives_its_entry() -> None:
    """A thread that Python has let go of, and the kernel shows yet, keeps its name."""
    following, memory = followed()
    with_thread: dict[int, int] = {}
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="soon gone")
    thread.start()
    with_thread[thread.native_id or 0] = 7
    assert ask(following, memory, with_thread) == {thread.native_id: "soon gone"}
    stop.set()
    thread.join()
    assert ask(following, memory, with_thread) == {thread.native_id: "soon gone"}


def test_a_new_name_follows() -> None:
    """A renamed thread has its old name until the new one has been read three times."""
    following, memory = followed()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="before", daemon=True)
    thread.start()
    tid = thread.native_id or 0
    try:
        assert ask(following, memory, {tid: 7}) == {tid: "before"}
        thread.name = "x" * 200 + "é" * (MOST_CHARACTERS + 1)
        following.update(memory, {tid: 7}, (), Unlimited())
        told = following.name_of(tid, 7)
        assert told is not None
        assert told.name == "before"
        assert ask(following, memory, {tid: 7}) == {tid: "x" * 192}
        told = following.name_of(tid, 7)
        assert told is not None
        assert told.cut
    finally:
        stop.set()
        thread.join()


class Poor(Unlimited):
    """A process that has paid for this much, and no more."""

    def __init__(self, left: int) -> None:
        self.left = left

    def allows(self) -> bool:
        """Return whether something is left."""
        return self.left > 0

    def spend(self, slots: int) -> None:
        """Subtract this much."""
        self.left -= slots


def test_what_is_not_paid_for_is_not_read() -> None:
    """Threads beyond what a process has paid for have their names with later readings."""
    following, memory = followed()
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait, daemon=True) for _ in range(40)]
    for thread in threads:
        thread.start()
    try:
        tids = {thread.native_id or 0: 7 for thread in threads}
        following.update(memory, tids, (), Poor(60))
        confirm(following, memory, tids)
        named = sum(following.name_of(tid, 7) is not None for tid in tids)
        assert 0 < named < 40
        assert len(ask(following, memory, tids)) == 40
    finally:
        stop.set()
        for thread in threads:
            thread.join()
