"""Serves HTTP: one thread called ``web`` with an asyncio loop, which owns all sockets.

Rules:

- A client can delay only itself: every step that it can put off has a deadline
  (:class:`~threadwatch.web.connection.Deadlines`).
- A client can use up a bounded share of memory: a request's head is limited, its body is not read,
  and a response goes out in pieces of one body that all connections share.
- At most ``max_connections`` are open. When one more comes in, a connection that waits for its
  client is dropped: preferably one that has never been served; of these, one of the address with
  the most such connections; of these, the one that has waited longest. So clients that only hold
  connections lose them, clients that ask are answered, and a client with many connections takes
  places from itself.
- The rules of access (:mod:`threadwatch.web.auth.access`) are applied to each connection and each
  request.
- Requests are answered on the loop, one at a time: the handler must not block. What takes long it
  returns as an awaitable. It is never called with a request that is not HTTP or not complete.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from threadwatch.errors import Unusable
from threadwatch.sockets import unix_socket
from threadwatch.web.auth.access import Access
from threadwatch.web.auth.passwords import Passwords
from threadwatch.web.connection import MAX_HEAD, Connection, Deadlines
from threadwatch.web.hosts import Hosts
from threadwatch.web.listen import BACKLOG, Listen, bind, bound_address
from threadwatch.web.messages import Handler
from threadwatch.web.unix import UnixAddress

if TYPE_CHECKING:
    import socket

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 16
"""Connections that are accepted before other work has its turn."""


class WebServer:
    """Serves ``handler`` on every address of ``listen``, from :meth:`start` to :meth:`stop`."""

    def __init__(
        self,
        listen: Sequence[Listen],
        handler: Handler,
        *,
        sockets: Sequence[socket.socket] = (),
        access: Access | None = None,
        max_connections: int = 512,
        deadlines: Deadlines | None = None,
        hosts: Hosts | None = None,
    ) -> None:
        """Opens nothing yet. ``sockets`` are bound already: the server takes them over, and serves them.

        ``hosts``: the names by which it may be asked; by default those of every machine.
        """
        self._listen = tuple(listen)
        self._inherited = tuple(sockets)
        self._handler = handler
        self._access = access or Access(None)
        self._passwords = Passwords()
        self._deadlines = deadlines or Deadlines()
        self._hosts = hosts or Hosts()
        self._connections = _Connections(max_connections)
        self._listeners: list[socket.socket] = []
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._failure: Exception | None = None

    @property
    def addresses(self) -> tuple[Listen, ...]:
        """Return the addresses that it listens at, with the real ports; empty unless started."""
        pairs = zip_longest(self._listeners, self._listen[: len(self._listeners)])
        return tuple(bound_address(listener, asked) for listener, asked in pairs)

    @property
    def failed(self) -> bool:
        """Return whether an error has ended it, which is in the log."""
        return self._failure is not None

    def start(self) -> None:
        """Bind every address, then serve them in a thread. Raises Unusable if one cannot be bound."""
        try:
            for address in self._listen:
                self._listeners.append(bind(address))
        except BaseException:  # whatever ends this: no socket stays open
            self._close_listeners()
            raise
        self._listeners += self._inherited
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="web", daemon=True)
        self._thread.start()
        started.wait()
        if self._failure is not None:
            message = f"the web server cannot start: {self._failure}"
            raise Unusable(message) from self._failure

    def stop(self) -> None:
        """Stop listening, let current responses end for a moment, end the thread. May be called again."""
        if self._thread is None:
            return
        if self._loop is not None and self._stopping is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = None

    def reload(self) -> None:
        """Read the web configuration again soon, whether it has changed or not; the result is logged."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(lambda: self._access.look(again=True))

    def _run(self, started: threading.Event) -> None:
        try:
            asyncio.run(self._serve(started))
        except Exception as error:  # start() raises it, or the log has it
            self._failure = error
            if started.is_set():
                logger.exception("the web server has failed")
        finally:
            started.set()
            self._close_listeners()

    async def _serve(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_log_exception)
        self._stopping = asyncio.Event()
        servers = [
            # The stream's limit: it stops reading from a client that is this far ahead of us.
            await asyncio.start_server(
                self._connected, sock=listener, backlog=_AT_ONCE, limit=MAX_HEAD
            )
            for listener in self._listeners
        ]
        for listener in self._listeners:
            listener.listen(BACKLOG)  # asyncio takes one number for both
        started.set()
        await self._stopping.wait()
        for server in servers:
            server.close()
        self._passwords.close()
        await self._connections.finish(self._deadlines.stop)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(
            reader,
            writer,
            self._handler,
            self._deadlines,
            self._access,
            self._passwords,
            self._connections.waiting,
            self._hosts,
        )
        with self._connections.admit(connection) as admitted:
            if admitted:
                # Dropping a connection cancels its task; asyncio of Python 3.11 would log that as
                # an error.
                with contextlib.suppress(asyncio.CancelledError):
                    await connection.run()
            else:
                connection.abort()

    def _close_listeners(self) -> None:
        bound = self._listen[: len(self._listeners)]
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for address in bound:
            if isinstance(address, UnixAddress):
                unix_socket.remove(address.path)


class _Connections:
    """All open connections, and those of them that wait for their client, the longest wait first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._finishing = False
        self._open: dict[Connection, asyncio.Task[None] | None] = {}
        self._waiting: dict[Connection, None] = {}

    @contextlib.contextmanager
    def admit(self, connection: Connection) -> Iterator[bool]:
        """Count ``connection`` as open; False: there is no place, because all others are being answered."""
        if len(self._open) >= self._most and not self._evict():
            yield False
            return
        self._open[connection] = asyncio.current_task()
        try:
            yield True
        finally:
            self._open.pop(connection, None)

    @contextlib.contextmanager
    def waiting(self, connection: Connection) -> Iterator[None]:
        """Count ``connection`` among those that wait for their client."""
        if self._finishing:
            connection.abort()
        self._waiting[connection] = None
        try:
            yield
        finally:
            self._waiting.pop(connection, None)

    def _evict(self) -> bool:
        strangers = [connection for connection in self._waiting if not connection.served]
        candidates = strangers or list(self._waiting)
        if not candidates:
            return False
        counts = Counter(connection.client for connection in candidates)
        [(greediest, _)] = counts.most_common(1)
        self._drop(next(each for each in candidates if each.client == greediest))
        return True

    def _drop(self, connection: Connection) -> None:
        # Its task ends a little later; its place is free now.
        del self._waiting[connection]
        task = self._open.pop(connection, None)
        connection.abort()
        if task is not None:
            task.cancel()  # it may wait for a check of its password instead of its client

    async def finish(self, seconds: float) -> None:
        """Drop connections that wait for their client; drop others when they do, or after ``seconds``."""
        self._finishing = True
        tasks = [task for task in self._open.values() if task is not None]
        for connection in tuple(self._waiting):
            self._drop(connection)
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)


def _log_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error of asyncio's own, such as accept() without a free file descriptor."""
    error = context.get("exception")
    if isinstance(error, OSError):
        logger.warning("%s: %s", context["message"], error)
    else:
        logger.error("%s", context["message"], exc_info=error)
