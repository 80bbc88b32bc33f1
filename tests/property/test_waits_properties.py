"""Why a thread waits: whatever the kernel or a target's memory says gives a state of the project's."""

from __future__ import annotations

from itertools import compress

from hypothesis import example, given
from hypothesis import strategies as st

from threadwatch.errors import Malformed, ReadError
from threadwatch.model.states import NAMES
from threadwatch.names.slots import Gil
from threadwatch.procfs import RUNNING, Syscall, parse_syscall
from threadwatch.waits.gil_holder import NOBODY, find_holder
from threadwatch.waits.reasons import (
    AskCondition,
    AskFd,
    AskFile,
    AskFunction,
    AskMemory,
    AskState,
    of_file,
    of_function,
    of_letter,
    of_link,
    only_fd,
    reason,
)
from threadwatch.waits.syscalls import CALLS, ways

STATES = frozenset(NAMES) - {"runnable", "sleeping"}
"""What a sample can see: not that a CPU is missing, nor that nothing can be seen."""
U64 = st.integers(0, 2**64 - 1)
NUMBERS = [number for calls in CALLS.values() for call in calls for number in call[1:]]
CALL = st.builds(
    Syscall,
    st.sampled_from([int(number) for number in NUMBERS if number is not None])
    | st.integers(0, 2**31 - 1),
    st.tuples(*[U64 | st.integers(0, 2000)] * 6),
    U64,
    U64,
)
PLACE = st.builds(Syscall, st.integers(-(2**31), -1), st.just(()), U64, U64)
GILS = st.lists(
    st.builds(Gil, st.integers(1, 2**60).map(lambda n: n * 8), st.integers(24, 4096), U64, U64),
    max_size=3,
)


def line(call: Syscall) -> bytes:
    """Return a line as proc_pid_syscall() in fs/proc/base.c writes it."""
    words = " ".join(f"{word:#x}" for word in (*call.args, call.sp, call.pc))
    return f"{call.number} {words}\n".encode()


@given(call=CALL | PLACE)
def test_a_line_gives_back_what_the_kernel_wrote(call: Syscall) -> None:
    """Number, arguments and places of up to 64 bits."""
    assert parse_syscall(line(call)) == call


@given(
    data=st.binary(max_size=200)
    | st.builds(
        lambda call, start, new: line(call)[:start] + new + line(call)[start:],
        CALL | PLACE,
        st.integers(0, 200),
        st.binary(max_size=4),
    )
)
@example(data=RUNNING)
def test_any_bytes_give_a_call_or_malformed(data: bytes) -> None:
    """No other exception; and what is believed is what the kernel would write."""
    try:
        call = parse_syscall(data)
    except Malformed:
        return
    if call is None:
        assert data == RUNNING
        return
    assert all(0 <= word < 2**64 for word in (*call.args, call.sp, call.pc))
    assert parse_syscall(line(call)) == call


@given(
    call=CALL | PLACE,
    machine=st.sampled_from(["x86_64", "aarch64", "riscv64"]),
    gils=GILS,
    link=st.text(max_size=40) | st.sampled_from(["socket:[1]", "pipe:[1]", "anon_inode:[pidfd]"]),
    letter=st.sampled_from("RSDTtZXxKWPI"),
    wchan=st.binary(max_size=30)
    | st.sampled_from([b"futex_do_wait", b"pipe_read", b"do_sys_poll"]),
    data=st.data(),
)
def test_every_question_ends_in_a_state(
    call: Syscall,
    machine: str,
    gils: list[Gil],
    link: str,
    letter: str,
    wchan: bytes,
    data: st.DataObject,
) -> None:
    """Any call, with any answers to what has to be asked, gives a state of the project's in a few steps."""
    answer = reason(call, ways(machine), gils)
    for _ in range(5):
        match answer:
            case str():
                break
            case AskFd(fd):
                assert 0 <= fd < 2**32
                answer = of_link(link)
            case AskCondition(futex):
                assert call.sp <= futex == call.args[0]
                answer = data.draw(st.sampled_from(["gil", "lock"]))
            case AskMemory(places, _):
                assert len(places) <= 3
                assert all(0 < size <= 128 for _, size in places)
                answer = only_fd(
                    answer,
                    [data.draw(st.binary(min_size=size, max_size=size)) for _, size in places],
                )
            case AskFile():
                answer = of_file(letter, wchan)
            case AskState():
                answer = of_letter(letter)
            case AskFunction():
                answer = of_function(answer.call, wchan, gils)
    assert answer in STATES


@given(
    sets=st.lists(st.lists(st.booleans(), max_size=128), min_size=1, max_size=3),
    bits=st.integers(1, 128),
)
def test_select_by_its_sets(sets: list[list[bool]], bits: int) -> None:
    """The descriptor that is alone in the union of the sets is found, and no other."""
    fds = {fd for chosen in sets for fd in compress(range(bits), chosen)}
    memory = [
        sum(1 << fd for fd in compress(range(128), chosen)).to_bytes(16, "little")
        for chosen in sets
    ]
    answer = only_fd(AskMemory(tuple((8, 16) for _ in sets), bits), memory)
    if len(fds) == 1:
        assert answer == AskFd(*fds)
    else:
        assert answer == ("poll" if fds else "sleep")


class _Memory:
    """Memory that is different each time that it is read."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data
        self.reads = 0

    def read(self, _: int, size: int) -> bytes:
        self.reads += 1
        choice = self._data.draw(st.sampled_from(["held", "free", "any", "none"]))
        if choice == "none":
            raise ReadError("mem", "eio")
        if choice == "any" or size != 24:
            return self._data.draw(st.binary(min_size=size, max_size=size))
        state = self._data.draw(st.sampled_from([0, 8, 16, 2**64 - 8]))
        return bytes(8) + state.to_bytes(8, "little") + (choice == "held").to_bytes(8, "little")


@given(data=st.data(), offsets=st.tuples(*[st.sampled_from([0, 8, 4096])] * 2))
def test_any_memory_gives_a_holder_or_one_error(
    data: st.DataObject, offsets: tuple[int, int]
) -> None:
    """Whatever is read, it ends soon: a holder, none, unknown, or a ReadError."""
    memory = _Memory(data)
    try:
        holder = find_holder(memory.read, Gil(4096, 208, *offsets))
    except ReadError:
        holder = None
    assert memory.reads <= 10
    if holder not in (None, NOBODY):
        assert holder is not None
        assert (holder.ident == 0) >= (offsets[0] == 0)
        assert (holder.native == 0) >= (offsets[1] == 0)
