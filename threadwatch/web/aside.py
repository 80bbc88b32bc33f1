"""Runs calls that take long in a thread of its own, one at a time, for an event loop that must not wait."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

_MOST: Final = 16
"""Calls that wait or run. One more is refused."""

_T = TypeVar("_T")


class Busy(Exception):
    """As many calls wait as may."""


class Aside:
    """The thread, which begins with the first call. For one event loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]]] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None
        self._under_way = 0

    async def run(self, call: Callable[[], _T]) -> _T:
        """Return what the call returns, or raise what it raises.

        If the caller is cancelled meanwhile, a call that has not begun never does.

        :raises Busy: too many wait.
        """
        if self._under_way >= _MOST:
            raise Busy
        loop = asyncio.get_running_loop()
        if self._thread is None:
            # A daemon thread: what it waits for must not keep the daemon from ending.
            self._thread = threading.Thread(
                target=self._run, args=(loop,), name=self._name, daemon=True
            )
            self._thread.start()
        result: asyncio.Future[_T] = loop.create_future()
        self._under_way += 1
        self._calls.put((call, result))
        return await result

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            call, result = self._calls.get()
            value, failure = None, None
            if not result.cancelled():
                try:
                    value = call()
                except Exception as error:  # noqa: BLE001  # the caller, which waits, raises it again
                    failure = error
            try:
                loop.call_soon_threadsafe(self._done, result, value, failure)
            except RuntimeError:  # the loop is closed: the server has stopped
                return

    def _done(self, result: asyncio.Future[Any], value: object, failure: Exception | None) -> None:
        self._under_way -= 1
        with contextlib.suppress(asyncio.InvalidStateError):  # the caller has been cancelled
            if failure is None:
                result.set_result(value)
            else:
                result.set_exception(failure)
