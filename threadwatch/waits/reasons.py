"""Derives why a thread waits from its system call: pure, no file is read here.

The rules, in the words of the states (:mod:`threadwatch.model.states`):

* ``gil``: a futex inside the GIL's own memory, or that of a node in the GIL's list of waiters (on musl).
  ``lock``: any other futex (Lock, Condition, Queue, Event and ``Thread.join`` are all futexes, and so
  are the locks of ``multiprocessing``), a System V semaphore, or a lock on a file.
* **A wait for exactly one file descriptor is a wait for that one**: its kind is the state, whether
  the thread sleeps in the read itself or in ``poll`` or ``select`` before it. In this way Python
  waits for a socket with a timeout, ``subprocess.communicate`` for a single pipe,
  ``multiprocessing`` for a single connection and ``socketserver`` for its next client. A wait for
  more than one, and every ``epoll``, is ``poll``: an event loop.
* A wait for time is ``sleep``, in any call: up to CPython 3.10 ``time.sleep`` is a ``select``
  without file descriptors. A wait for a signal is ``sleep``, too.
* ``file`` is any operation on a file, a directory, a file system or a terminal. ``disk`` is the
  same while the kernel says that it cannot be interrupted (state D), which means that the device is
  at work. A wait for a page that has to be read from a disk is ``disk``, too.
* ``child``: ``waitpid``, a pidfd, and a fork whose child has not begun (vfork).
* ``other``: unknown calls, those of 32-bit programs, and waits without a rule here.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from threadwatch.model.states import OF_LETTER, Kind, of_kind
from threadwatch.names.slots import Gil
from threadwatch.procfs import Syscall
from threadwatch.waits.syscalls import CallKind

_NEAR = 1 << 32
"""A 32-bit program has its whole memory below this address; a 64-bit one never has both stack and
code there."""
_LOCK_COMMANDS = frozenset({7, 38})
"""F_SETLKW and F_OFD_SETLKW (<fcntl.h>): the commands that wait."""
_MAX_SELECT = 1024
"""FD_SETSIZE."""
_POLLFD = struct.Struct("=i4x")
_FRAMES = 1024
"""Bytes of a stack, at most, between a system call and the node of a musl condition that it waits for."""
_PIPE_FUNCTIONS = (b"pipe", b"fifo", b"wait_for_partner")

LETTERS: Mapping[str, str] = MappingProxyType(
    {
        letter: state
        for letter, state in OF_LETTER.items()
        if state in of_kind(Kind.KEPT, Kind.HALTED)
    }
)
"""The kernel's letters that are a reason by themselves, or mean that there is none."""


class AskFd(NamedTuple):
    """Asks for the kind of this descriptor of the thread: :func:`of_link` takes the answer."""

    fd: int


class AskMemory(NamedTuple):
    """Asks for the descriptors in the arguments: they are in memory, and :func:`only_fd` takes the answer."""

    places: tuple[tuple[int, int], ...]
    """Addresses and sizes in bytes."""
    bits: int
    """The places are sets of select with this many bits; 0: a list of poll with one entry."""


class AskCondition(NamedTuple):
    """Asks whether a thread that sleeps on a futex on its own stack waits for a GIL, as it does on musl."""

    futex: int


class AskState(NamedTuple):
    """Asks for the thread's letter in ``stat``: it is in a page fault, stopped, or has ended."""


class AskFile(NamedTuple):
    """Asks for the thread's letter and, if that is no reason, for ``wchan``: :func:`of_file` takes them."""


class AskFunction(NamedTuple):
    """Asks for the thread's ``wchan``: :func:`of_function` takes the answer."""

    call: Syscall


Ask = AskFd | AskMemory | AskCondition | AskState | AskFile | AskFunction
"""A question whose answer decides the reason."""


def reason(call: Syscall, ways: Mapping[int, str | CallKind], gils: Sequence[Gil]) -> str | Ask:
    """Return the state of a thread that is blocked in this call, or the question to ask first.

    ``ways`` are those of the machine (:func:`threadwatch.waits.syscalls.ways`), ``gils`` the process's own.
    """
    number, args, sp, pc = call
    if number < 0:
        return AskState()
    way = ways.get(number)
    if way is None or (sp < _NEAR and pc < _NEAR):
        return "other"
    if way is CallKind.FUTEX:
        return _futex(call, gils)
    if isinstance(way, str):
        return way
    if way is CallKind.FD:
        return AskFd(args[0] & 0xFFFFFFFF)
    if way is CallKind.FILE:
        return AskFile()
    if way is CallKind.POLL_FDS:
        return _poll(args)
    if way is CallKind.SELECT_FDS:
        return _select(args)
    if way is CallKind.FCNTL:
        return "lock" if args[1] & 0xFFFFFFFF in _LOCK_COMMANDS else AskFile()
    return AskFunction(call)


def of_link(link: str) -> str | Ask:
    """Return the state of a thread that waits for the file with this link (proc_pid_fd(5))."""
    if link.startswith("socket:"):
        return "socket"
    if link.startswith("pipe:"):
        return "pipe"
    if link == "anon_inode:[pidfd]":
        return "child"
    if link.startswith("anon_inode:"):
        return "poll"  # eventfd, timerfd, signalfd, inotify: it waits for an event
    return AskFile()  # or a named pipe, whose link is its path


def only_fd(ask: AskMemory, memory: Sequence[bytes]) -> str | AskFd:
    """Return the only descriptor of the call; ``poll`` if there are more, ``sleep`` if there is none."""
    if ask.bits:
        chosen = 0
        for bits in memory:
            chosen |= int.from_bytes(bits, "little")
        chosen &= (1 << ask.bits) - 1
        if chosen.bit_count() > 1:
            return "poll"
        fd = chosen.bit_length() - 1
    else:
        (fd,) = _POLLFD.unpack(memory[0])
    return AskFd(fd) if fd >= 0 else "sleep"  # poll ignores negative ones


def of_file(letter: str, wchan: bytes) -> str:
    """Return the state of a thread in a call about a file, by its letter and the kernel's function."""
    found = LETTERS.get(letter)
    if found is not None:
        return found
    # These functions read, write or open a named pipe; if the name is hidden, the state is file.
    return "pipe" if any(name in wchan for name in _PIPE_FUNCTIONS) else "file"


def of_letter(letter: str) -> str:
    """Return the state of a thread that is blocked outside of system calls."""
    return "running" if letter == "R" else LETTERS.get(letter, "other")


def of_function(call: Syscall, wchan: bytes, gils: Sequence[Gil]) -> str | Ask:
    """Return the state of a thread that continues a wait which a stop has interrupted.

    The thread is in ``restart_syscall``, which has no arguments, but the registers still have those
    of the interrupted call. The kernel's function tells which call that was. Only calls with a
    timeout are resumed in this way.
    """
    if b"_stop" in wchan:
        return "stopped"  # stopped again
    if b"futex" in wchan:
        return _futex(call, gils)
    if b"nanosleep" in wchan:
        return "sleep"
    if b"poll" in wchan:
        return _poll(call.args)
    return "other"


def _futex(call: Syscall, gils: Sequence[Gil]) -> str | AskCondition:
    address = call.args[0]
    for gil in gils:
        if gil.address <= address < gil.address + gil.size:
            return "gil"
    if gils and call.sp <= address < call.sp + _FRAMES:
        return AskCondition(address)
    return "lock"


def _poll(args: tuple[int, ...]) -> str | AskMemory:
    fds, count = args[0], args[1] & 0xFFFFFFFF
    if not count:
        return "sleep"
    return AskMemory(((fds, _POLLFD.size),), bits=0) if count == 1 else "poll"


def _select(args: tuple[int, ...]) -> str | AskMemory:
    count = args[0] & 0xFFFFFFFF
    sets = [address for address in args[1:4] if address]
    if not count or not sets:
        return "sleep"
    if count > _MAX_SELECT:
        return "poll"
    size = -(-count // 64) * 8  # sets are whole longs
    return AskMemory(tuple((address, size) for address in sets), bits=count)
