"""Finding the GIL of this very process; other interpreters have their turn in the integration tests."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import types

import pytest

from threadwatch.publisher import gil


def find() -> tuple[int, int, int, int]:
    """Return what this thread finds."""
    return gil.find(threading.get_ident(), threading.get_native_id())


def number(address: int) -> int:
    """Eight bytes of this process's memory."""
    return ctypes.c_uint64.from_address(address).value


def test_its_holder_is_who_asks() -> None:
    """At the address are the interval, our thread state and 1; in that, at the offsets, our ident and TID."""
    address, size, ident_offset, native_offset = find()
    get_state = ctypes.pythonapi.PyThreadState_Get
    get_state.restype = ctypes.c_void_p
    state = get_state()
    assert number(address) == round(sys.getswitchinterval() * 1e6)
    assert (number(address + 8), number(address + 16) & 0xFFFFFFFF) == (state, 1)
    assert number(state + ident_offset) == threading.get_ident()
    assert number(state + native_offset) == threading.get_native_id()
    assert size == {"x86_64": 208, "aarch64": 224}[os.uname().machine]


def test_another_thread_is_not_found() -> None:
    """A thread with another ident finds nothing; one with another TID finds all but the TID."""
    address, size, ident_offset, _ = find()
    assert gil.find(threading.get_ident() + 8, threading.get_native_id()) == gil.NOT_FOUND
    wrong_tid = gil.find(threading.get_ident(), threading.get_native_id() + 1)
    assert wrong_tid == (address, size, ident_offset, 0)


def test_other_implementations_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read where this is not CPython, or where it says that its GIL is off."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "implementation", types.SimpleNamespace(name="pypy"))
        assert find() == gil.NOT_FOUND
    with monkeypatch.context() as patch:
        patch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
        assert find() == gil.NOT_FOUND
    assert find() != gil.NOT_FOUND


def test_no_descriptor_is_left_open() -> None:
    """However often it is asked, and whatever it finds."""
    before = os.listdir("/proc/self/fd")
    for _ in range(10):
        find()
        gil.find(1, 1)
    assert os.listdir("/proc/self/fd") == before


def test_without_descriptors() -> None:
    """Where no file can be opened, nothing is found and nothing raised."""
    code = (
        "import os, resource, threading, warnings; from threadwatch.publisher import gil;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3));"
        "print(gil.find(threading.get_ident(), threading.get_native_id()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("(0, 0, 0, 0)\n", "")


def test_what_signal_handlers_raise_is_the_applications() -> None:
    """An exception of a handler that runs in our midst passes through, even one like those that we expect."""

    class Alarm(TimeoutError):
        """What the handler raises: an OSError, as reading what is not mapped gives."""

    raised = arrived = 0

    def handler(*_: object) -> None:
        nonlocal raised
        raised += 1
        raise Alarm

    before = signal.signal(signal.SIGALRM, handler)
    deadline = 10_000
    try:
        while raised < 50 and deadline:
            deadline -= 1
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002)
                for _ in range(100):
                    find()
                signal.setitimer(signal.ITIMER_REAL, 0)  # or it would come between two rounds
            except Alarm:
                arrived += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert raised >= 50
    assert arrived == raised
