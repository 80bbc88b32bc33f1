"""Which state follows from which system call."""

from __future__ import annotations

import pytest

from threadwatch.names.slots import Gil
from threadwatch.procfs import Syscall
from threadwatch.waits.reasons import (
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

WAYS = ways("x86_64")
NUMBERS = {call[0]: call[1] for calls in CALLS.values() for call in calls}
GIL = Gil(0x1000, 208, 152, 160)
OWN_GIL = Gil(0x9000, 208, 152, 160)
STACK = 0x7FFD83460C90


def call(name: str, *args: int, sp: int = STACK, pc: int = STACK) -> Syscall:
    """Return a thread that is blocked in this call."""
    number = NUMBERS[name]
    assert number is not None
    return Syscall(number, (*args, *[0] * (6 - len(args))), sp, pc)


@pytest.mark.parametrize(
    ("address", "state"),
    [
        (0x0FFF, "lock"),
        (0x1000, "gil"),
        (0x1000 + 207, "gil"),
        (0x1000 + 208, "lock"),
        (0x9000 + 80, "gil"),
    ],
)
def test_a_futex_is_the_gils_by_its_address(address: int, state: str) -> None:
    """Inside of any GIL of the process it is a wait for a GIL; next to it, for a lock."""
    assert reason(call("futex", address), WAYS, (GIL, OWN_GIL)) == state
    assert reason(call("futex", address), WAYS, ()) == "lock"


@pytest.mark.parametrize(
    ("blocked", "state"),
    [
        (call("flock", 3, 2), "lock"),
        (call("fcntl", 3, 7), "lock"),
        (call("fcntl", 3, 38), "lock"),
        (call("semop", 1), "lock"),
        (call("nanosleep", 1), "sleep"),
        (call("clock_nanosleep", 1), "sleep"),
        (call("rt_sigtimedwait", 1), "sleep"),
        (call("poll", STACK, 0, 1000), "sleep"),
        (call("select", 0, 0, 0, 0, STACK), "sleep"),
        (call("pselect6", 4, 0, 0, 0, STACK), "sleep"),
        (call("poll", STACK, 2, 1000), "poll"),
        (call("select", 5000, STACK), "poll"),
        (call("epoll_wait", 3), "poll"),
        (call("epoll_pwait", 3), "poll"),
        (call("recvfrom", 3), "socket"),
        (call("accept4", 3), "socket"),
        (call("connect", 3), "socket"),
        (call("wait4", 1), "child"),
        (call("vfork"), "child"),
        (Syscall(100_000, (0,) * 6, STACK, STACK), "other"),
    ],
)
def test_states_that_the_call_alone_tells(blocked: Syscall, state: str) -> None:
    """No question has to be asked."""
    assert reason(blocked, WAYS, ()) == state


def test_a_32_bit_program_has_other_numbers() -> None:
    """Its calls are not mistaken for those of the machine: sync(2) has the number of nanosleep there."""
    assert reason(call("sync", sp=0xFFD83460, pc=0xF7FC9549), WAYS, ()) == "other"
    assert reason(call("sync", pc=0x401000), WAYS, ()) == AskFile()  # linked to a fixed address


@pytest.mark.parametrize(
    ("blocked", "ask"),
    [
        (call("read", 7), AskFd(7)),
        (call("writev", 0xFFFFFFFF_00000007), AskFd(7)),
        (call("fsync", 7), AskFile()),
        (call("openat"), AskFile()),
        (call("fcntl", 3, 1033), AskFile()),
        (call("poll", STACK, 1), AskMemory(((STACK, 8),), bits=0)),
        (call("ppoll", STACK, 0xFFFFFFFF_00000001), AskMemory(((STACK, 8),), bits=0)),
        (call("select", 65, 1024, 0, 2048), AskMemory(((1024, 16), (2048, 16)), bits=65)),
        (Syscall(-1, (), STACK, STACK), AskState()),
        (call("restart_syscall", 9), AskFunction(call("restart_syscall", 9))),
    ],
)
def test_states_that_have_to_be_asked_for(blocked: Syscall, ask: object) -> None:
    """What is needed beside the call is asked for, and nothing else."""
    assert reason(blocked, WAYS, ()) == ask


@pytest.mark.parametrize(
    ("link", "answer"),
    [
        ("socket:[12345]", "socket"),
        ("pipe:[12345]", "pipe"),
        ("anon_inode:[eventfd]", "poll"),
        ("anon_inode:[timerfd]", "poll"),
        ("anon_inode:[signalfd]", "poll"),
        ("anon_inode:[eventpoll]", "poll"),
        ("anon_inode:inotify", "poll"),
        ("anon_inode:[pidfd]", "child"),
        ("/dev/pts/0", AskFile()),
        ("/var/log/socket:[1]", AskFile()),
        ("", AskFile()),
    ],
)
def test_kinds_of_files(link: str, answer: object) -> None:
    """What the kernel calls a descriptor says what is waited for; a path may be a named pipe."""
    assert of_link(link) == answer


@pytest.mark.parametrize(
    ("letter", "wchan", "state"),
    [
        ("D", b"", "disk"),
        ("T", b"do_signal_stop", "stopped"),
        ("S", b"request_wait_answer", "file"),
        ("S", b"wait_woken", "file"),
        ("R", b"0", "file"),
        ("S", b"", "file"),
        ("S", b"pipe_read", "pipe"),
        ("S", b"anon_pipe_write", "pipe"),
        ("S", b"wait_for_partner", "pipe"),
    ],
)
def test_file_or_disk_or_named_pipe(letter: str, wchan: bytes, state: str) -> None:
    """In a call about a file the kernel's letter decides, then its function."""
    assert of_file(letter, wchan) == state


def test_outside_of_calls() -> None:
    """A page fault that waits for the device, a stop, an end; for the rest there is no word."""
    states = {letter: of_letter(letter) for letter in "DTtZXRS"}
    assert states == {
        **dict.fromkeys("Tt", "stopped"),
        **dict.fromkeys("ZX", "zombie"),
        "D": "disk",
        "R": "running",
        "S": "other",
    }


def test_the_one_descriptor_of_poll() -> None:
    """It is the first half of the structure; a negative one is ignored by poll, so nothing is waited for."""
    ask = AskMemory(((STACK, 8),), bits=0)
    assert only_fd(ask, [b"\x07\0\0\0\x01\0\0\0"]) == AskFd(7)
    assert only_fd(ask, [b"\xff\xff\xff\xff\x01\0\0\0"]) == "sleep"


def test_the_one_descriptor_of_select() -> None:
    """One bit in any of the sets, or the same in several; bits beyond the number given do not count."""
    ask = AskMemory(((1, 16), (2, 16)), bits=70)
    fd_69 = (1 << 69).to_bytes(16, "little")
    assert only_fd(ask, [fd_69, bytes(16)]) == AskFd(69)
    assert only_fd(ask, [fd_69, fd_69]) == AskFd(69)
    assert only_fd(ask, [fd_69, (1 << 3).to_bytes(16, "little")]) == "poll"
    assert only_fd(ask, [(1 << 70).to_bytes(16, "little"), bytes(16)]) == "sleep"


def test_waits_that_go_on_after_a_stop() -> None:
    """restart_syscall is what it was before, by the kernel's function and the registers of then."""
    futex = call("restart_syscall", GIL.address + 32)
    assert of_function(futex, b"futex_do_wait", (GIL,)) == "gil"
    assert of_function(futex, b"futex_do_wait", ()) == "lock"
    assert of_function(call("restart_syscall"), b"hrtimer_nanosleep", ()) == "sleep"
    assert of_function(call("restart_syscall"), b"do_signal_stop", ()) == "stopped"
    poll = call("restart_syscall", STACK, 1)
    assert of_function(poll, b"poll_schedule_timeout.constprop.0", ()) == AskMemory(
        ((STACK, 8),), bits=0
    )
    assert of_function(poll, b"0", ()) == "other"
