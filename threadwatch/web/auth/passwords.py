"""Checks passwords: Basic authentication (RFC 7617) against bcrypt hashes.

bcrypt is slow on purpose: each password takes 50 ms to seconds of a CPU. So:

- bcrypt runs in a thread of its own, without the GIL, one password at a time. A flood of passwords
  takes one CPU at most, and neither polls nor responses wait for it.
- Results are remembered, so a scraper pays once. Right passwords are remembered apart from wrong
  ones, which therefore cannot push them out.
- Addresses take turns: a client that sends hundreds of wrong passwords delays only itself.
- The check of a user that does not exist takes as long as any other: it is made against another user's hash.

Passwords are not kept. A result is stored under a keyed digest, whose key ends with the process; so
the time of a look-up reveals nothing either.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import binascii
import contextlib
import hmac
import logging
import queue
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import bcrypt

logger = logging.getLogger(__name__)

_SIGNIFICANT: Final = 72
"""Bytes of a password that bcrypt looks at. More is cut off, as by Go and htpasswd, not refused."""
_RIGHT_KEPT: Final = 256
_WRONG_KEPT: Final = 1024
_LAST_CHECK_S: Final = 3.0
"""CPU time that a check which has begun may still use when the process ends: enough for a cost of 14."""
_STILL_S: Final = 0.05
"""How often its CPU time is looked at meanwhile."""


@dataclass(eq=False, slots=True)
class _Check:
    """A password that waits for its turn, or that is being checked."""

    digest: bytes
    password: bytes = field(repr=False)
    hashed: bytes
    known: bool
    """Whether there is such a user."""
    result: asyncio.Future[bool]
    waiting: int = 0
    """Requests that wait for the result."""


class Passwords:
    """Checks passwords, for one event loop. Its thread begins with the first one."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._checks: dict[bytes, _Check] = {}
        self._turns: OrderedDict[str, OrderedDict[bytes, _Check]] = OrderedDict()
        """The checks that have not begun, by the client's address; the next turn is the first's."""
        self._busy = False
        self._work: queue.SimpleQueue[_Check | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._clock: int | None = None
        """The thread's CPU clock, once it runs."""

    async def let_in(self, users: Mapping[bytes, bytes], authorization: str, client: str) -> bool:
        """Return whether the header's user is one of ``users``, with this password."""
        said = credentials(authorization)
        return said is not None and await self._check(users, *said, client)

    def close(self) -> None:
        """End the thread as soon as its current check is done, without waiting for it."""
        self._work.put(None)

    async def _check(
        self, users: Mapping[bytes, bytes], user: bytes, password: bytes, client: str
    ) -> bool:
        hashed = users.get(user)
        known = hashed is not None
        if hashed is None:
            hashed = self._somebody(users, user)
        password = password[:_SIGNIFICANT]
        digest = self._digest(b"known" if known else b"", user, hashed, password)
        for kept, verdict in ((self._right, True), (self._wrong, False)):
            if digest in kept:
                kept.move_to_end(digest)
                return verdict
        check = self._checks.get(digest)
        if check is None:
            result = asyncio.get_running_loop().create_future()
            check = self._checks[digest] = _Check(digest, password, hashed, known, result)
            self._turns.setdefault(client, OrderedDict())[digest] = check
            self._begin_next()
        check.waiting += 1
        try:
            return await asyncio.shield(check.result)
        finally:
            check.waiting -= 1
            if not check.waiting:
                self._forget(client, check)

    def _somebody(self, hashes: Mapping[bytes, bytes], user: bytes) -> bytes:
        """Return the hash of an existing user, always the same one, to check an unknown user against."""
        choice = int.from_bytes(self._digest(user)) % len(hashes)
        return sorted(hashes.values())[choice]

    def _digest(self, *parts: bytes) -> bytes:
        lengths = b"".join(len(part).to_bytes(4) for part in parts)
        return hmac.digest(self._secret, lengths + b"".join(parts), "sha256")

    def _forget(self, client: str, check: _Check) -> None:
        """Note that no request waits for ``check`` any more: if it has not begun, it never will."""
        turns = self._turns.get(client)
        if turns is not None and turns.pop(check.digest, None) is not None:
            del self._checks[check.digest]
            if not turns:
                del self._turns[client]

    def _begin_next(self) -> None:
        if self._busy or not self._turns:
            return
        client, turns = self._turns.popitem(last=False)
        _, check = turns.popitem(last=False)
        if turns:
            self._turns[client] = turns  # behind all other addresses
        self._busy = True
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(
                target=self._run, args=(loop,), name="passwords", daemon=True
            )
            self._thread.start()
            atexit.register(self._end, self._thread)
        self._work.put(check)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Check one password after the other, in the thread."""
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        while (check := self._work.get()) is not None:
            try:
                right = bcrypt.checkpw(check.password, check.hashed)
            except ValueError as error:  # a salt that only looks like one
                logger.warning("a password hash cannot be used: %s", error)
                right = False
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._done, check, right and check.known)

    def _done(self, check: _Check, right: bool) -> None:  # noqa: FBT001 - the result itself
        self._busy = False
        del self._checks[check.digest]
        kept, most = (self._right, _RIGHT_KEPT) if right else (self._wrong, _WRONG_KEPT)
        kept[check.digest] = None
        if len(kept) > most:
            kept.popitem(last=False)
        check.result.set_result(right)
        self._begin_next()

    def _end(self, thread: threading.Thread) -> None:
        """Wait for the thread to come back from bcrypt, before the interpreter ends.

        Until 3.13, Python ends a thread that comes back later by unwinding its stack (pthread_exit), which
        aborts the whole process where there is Rust on it. The limit is one of CPU time: on a busy machine
        the same check takes longer.
        """
        self._work.put(None)
        before_s = self._used_s()
        while thread.is_alive() and self._used_s() - before_s < _LAST_CHECK_S:
            thread.join(_STILL_S)

    def _used_s(self) -> float:
        """Return the CPU time that the thread has used; 0 before it runs and once it has ended."""
        if self._clock is None:
            return 0.0
        try:
            return time.clock_gettime(self._clock)
        except OSError:  # EINVAL: it has ended
            return 0.0


def credentials(authorization: str) -> tuple[bytes, bytes] | None:
    """Return user and password of an Authorization header; None if it has none."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(" "), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None
