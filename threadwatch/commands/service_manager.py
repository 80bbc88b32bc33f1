"""Talks to the service manager: readiness, watchdog, status, inherited sockets, the journal.

These are systemd's protocols, sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3) and
JOURNAL_STREAM of systemd.exec(5): environment variables, and datagrams of ``NAME=value`` lines. If
the environment names no service manager, nothing here has an effect.

Rules:

- Only complete polls feed the watchdog. A daemon that still answers scrapes but has stopped polling
  serves old numbers, and has to be killed.
- The daemon never waits for the service manager: a message that it does not take at once is sent
  again after the next poll.
- As long as the first poll makes progress, from one process to the next, the manager is asked to
  wait for it: on a machine that is short of CPU time it can take longer than the manager waits for
  a start.
- A message goes out every few seconds, however often polls are made, because each wakes up the
  manager.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from threadwatch.errors import Unusable
from threadwatch.words.text import printable
from threadwatch.words.wording import count

if TYPE_CHECKING:
    from threadwatch.model.view import View

FIRST_FD: Final = 3
"""SD_LISTEN_FDS_START: inherited descriptors are numbered from here on."""

_EVERY_NS: Final = 5_000_000_000
"""How often the status is brought up to date, and the watchdog fed, unless the watchdog needs it
more often."""
_FEEDS: Final = 4
"""Feeds within the watchdog's time, so that a few lost ones do not kill the daemon."""
_STEP_US: Final = 60_000_000
"""How long a poll may take, and one step of the first poll, unless the watchdog says how long."""
_MOST_FDS: Final = 1024
_STATUS_LENGTH: Final = 500
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class InheritedFd(NamedTuple):
    """A descriptor that the service manager has opened for us."""

    number: int
    name: str
    """``FileDescriptorName=`` of the socket unit, the unit's name by default; ``unknown`` without one."""


def parse_notify_socket(value: str) -> str:
    """Return the address for :meth:`socket.socket.sendto` that ``$NOTIFY_SOCKET`` stands for.

    Raises ValueError for what is neither a path nor, with an ``@`` in front, an abstract socket's name.
    """
    if len(value) > 1 and "\0" not in value:
        if value[0] == "/":
            return value
        if value[0] == "@":
            return "\0" + value[1:]
    message = f"NOTIFY_SOCKET={value!r} is neither a path nor an abstract socket (@name)"
    raise ValueError(message)


def parse_watchdog(environ: Mapping[str, str], pid: int) -> int | None:
    """Return after how many microseconds without a message ``pid`` is killed; None: never.

    Raises ValueError for values that are no numbers.
    """
    if "WATCHDOG_USEC" not in environ:
        return None
    if "WATCHDOG_PID" in environ and _number(environ, "WATCHDOG_PID") != pid:
        return None
    return _number(environ, "WATCHDOG_USEC") or None


def parse_listen_fds(environ: Mapping[str, str], pid: int) -> tuple[InheritedFd, ...]:
    """Return the descriptors that have been handed over to ``pid``; none if they are another process's.

    Raises ValueError for values that are no numbers, or too large.
    """
    if "LISTEN_FDS" not in environ or "LISTEN_PID" not in environ:
        return ()
    if _number(environ, "LISTEN_PID") != pid:
        return ()
    count = _number(environ, "LISTEN_FDS")
    if count > _MOST_FDS:
        message = f"LISTEN_FDS={count} is more than {_MOST_FDS}"
        raise ValueError(message)
    names = environ["LISTEN_FDNAMES"].split(":") if environ.get("LISTEN_FDNAMES") else []
    names += ["unknown"] * (count - len(names))
    return tuple(InheritedFd(FIRST_FD + i, name) for i, name in enumerate(names[:count]))


def is_journal(environ: Mapping[str, str], device: int, inode: int) -> bool:
    """Return whether the file of that device and inode is the manager's stream to the journal.

    JOURNAL_STREAM alone does not prove that: standard error may have been redirected since.
    """
    return environ.get("JOURNAL_STREAM") == f"{device}:{inode}"


def _number(environ: Mapping[str, str], name: str) -> int:
    value = environ[name]
    if not (value.isascii() and value.isdigit() and len(value) < 20):
        message = f"{name}={value!r} is not a number"
        raise ValueError(message)
    return int(value)


def take_sockets(environ: Mapping[str, str]) -> tuple[socket.socket, ...]:
    """Return the listening sockets that this process has inherited, as its own: children do not get them.

    Raises Unusable for a descriptor that cannot serve HTTP.
    """
    try:
        inherited = parse_listen_fds(environ, os.getpid())
    except ValueError as error:
        raise Unusable(str(error)) from None
    return tuple(_listener(fd) for fd in inherited)


def _listener(fd: InheritedFd) -> socket.socket:
    try:
        os.set_inheritable(fd.number, False)
        found = socket.socket(fileno=fd.number)
        if (
            found.family in _FAMILIES
            and found.type == socket.SOCK_STREAM
            and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        ):
            return found
        found.detach()
    except OSError:
        pass
    message = (
        f"the inherited descriptor {fd.number} ({printable(fd.name)}) is not a listening stream socket: "
        "a socket unit needs ListenStream= and Accept=no"
    )
    raise Unusable(message)


class ServiceManager:
    """The process that has started the daemon, if that is systemd or speaks systemd's protocols."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Raise Unusable for an environment that contradicts the protocols."""
        self._address: str | None = None
        try:
            if environ.get("NOTIFY_SOCKET"):
                self._address = parse_notify_socket(environ["NOTIFY_SOCKET"])
            self._watchdog_us = parse_watchdog(environ, os.getpid())
        except ValueError as error:
            raise Unusable(str(error)) from None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address else None
        self._said_ready = False
        self._every_ns = _EVERY_NS
        if self._watchdog_us:
            self._every_ns = min(_EVERY_NS, self._watchdog_us * 1000 // _FEEDS)
        self._due_ns = 0
        self._before: View | None = None
        self._complaint = ""

    @property
    def waits(self) -> bool:
        """Return whether the next complete poll is waited for: the first one, or one after a reload."""
        return self._socket is not None and not self._said_ready

    def expect_polls(self, interval_ns: int) -> int:
        """Polls come so far apart: where the watchdog's time is too short for that, it is made longer.

        Return the time in ns without a complete poll after which the daemon has to be started
        again, whether there is a watchdog for that or not.
        """
        needed_us = interval_ns // 1000 * 2
        if self._watchdog_us and self._watchdog_us < needed_us:
            self._watchdog_us = needed_us
            self._say(f"WATCHDOG_USEC={needed_us}")
        return max(self._watchdog_us or _STEP_US, needed_us) * 1000

    def getting_on(self) -> None:
        """Report a step of the poll that the manager waits for, and so get time for the next step.

        EXTEND_TIMEOUT_USEC (sd_notify(3)) ends a start, or a reload, only after the time that the unit allows
        for it anyway: ``TimeoutStartSec=``.
        """
        now_ns = time.monotonic_ns()
        if not self._said_ready and now_ns >= self._due_ns:
            self._due_ns = now_ns + self._every_ns
            self._say(f"EXTEND_TIMEOUT_USEC={self._watchdog_us or _STEP_US}")

    def polled(self, view: View) -> None:
        """Report a complete poll."""
        now_ns = time.monotonic_ns()
        if self._socket is None or (self._said_ready and now_ns < self._due_ns):
            return
        self._due_ns = now_ns + self._every_ns
        lines = ["WATCHDOG=1", _status(describe(view, self._before) + self._complaint)]
        if not self._said_ready:
            lines.insert(0, "READY=1")
        if self._say(*lines):
            self._said_ready = True
            self._before = view
        else:
            self._due_ns = now_ns

    def reloading(self) -> None:
        """Report that the configuration is being read again; the report ends with the next poll."""
        self._said_ready = False
        self._due_ns = 0
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self, error: object = None) -> None:
        """Report that the configuration has been read; or, with an ``error``, that the one before stays."""
        self._complaint = f" The last reload failed: {error}" if error is not None else ""

    def stopping(self) -> None:
        """Report that the daemon is about to end."""
        self._say("STOPPING=1", _status("Stopping."))

    def close(self) -> None:
        """Close the socket: nothing is sent any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _say(self, *lines: str) -> bool:
        """Send one message; return whether the manager has taken it."""
        if self._socket is None or self._address is None:
            return False
        message = "\n".join(lines).encode(errors="backslashreplace")
        try:
            self._socket.sendto(message, socket.MSG_DONTWAIT, self._address)
        except OSError:  # the socket is full, or away for a moment: systemd can be restarted
            return False
        return True


def describe(view: View, before: View | None) -> str:
    """Return what ``systemctl status`` shows: how much is watched, and its costs since ``before``."""
    processes = sum(group.processes for group in view.groups)
    threads = sum(sum(one.now.values()) for group in view.groups for one in group.series.values())
    published = sum(group.published for group in view.groups)
    stats = view.stats
    polls, cpu_ns = stats.polls, stats.poll_cpu_ns
    total = ""
    if before is not None:
        polls -= before.stats.polls
        cpu_ns -= before.stats.poll_cpu_ns
        spent_ns = cpu_ns + stats.sample_cpu_ns - before.stats.sample_cpu_ns
        elapsed_ns = max(view.monotonic_ns - before.monotonic_ns, 1)
        total = f", and all together {100 * spent_ns / elapsed_ns:.1f} % of one"
    text = (
        f"Watching {count(processes, 'process', 'processes')} ({published} published) "
        f"with {count(threads, 'thread', 'threads')}. "
        f"A poll takes {cpu_ns / max(polls, 1) / 1e6:.1f} ms of CPU{total}."
    )
    if any(reason == "denied" for _, reason in stats.read_errors):
        text += " Permission hides some: threadwatch doctor says what."
    if ("process", "emfile") in stats.read_errors:
        text += " Some are left out for want of file descriptors: threadwatch doctor says how many."
    return text


def _status(text: str) -> str:
    """Return the text on one line, short enough for the manager to take."""
    text = printable(text)
    return f"STATUS={text if len(text) <= _STATUS_LENGTH else text[: _STATUS_LENGTH - 1] + '…'}"
