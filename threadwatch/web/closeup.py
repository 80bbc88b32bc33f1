"""Answers for one thread what polls do not read, when a client asks: system call, kernel stack, Python stack.

Only threads of the last view are looked at: these are the ones that any client may see. The arguments of
system calls are not sent: they have addresses of the target, which the kernel shows to few.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import parse_qs

from threadwatch.errors import Gone, ReadError, Unusable
from threadwatch.metrics.exporter import Exporter
from threadwatch.model.closeup import Examined
from threadwatch.model.keys import ThreadKey
from threadwatch.model.view import ThreadView
from threadwatch.stacks.dump import Stack
from threadwatch.web.aside import Aside, Busy
from threadwatch.web.messages import NOSNIFF, Request, Response, plain
from threadwatch.words.closeup_json import examined_json, python_stack_json
from threadwatch.words.stack_text import pair

THREAD_PATH: Final = "/api/v1/thread"
STACK_PATH: Final = "/api/v1/stack"
HEADER: Final = "x-threadwatch"
"""The header of a request for a stack. No browser sends it for a page of another origin without asking us
first (CORS), and such questions are refused."""
SWITCHED_OFF: Final = "not switched on: threadwatch serve --web.enable-stacks"
_KEYS: Final = ("pid", "tid", "start_ticks")
_HEADERS: Final = (("Content-Type", "application/json"), ("Cache-Control", "no-store"), NOSNIFF)
_SECONDS: Final = 25.0
"""The time after which a client is told to ask again. py-spy has 20 s."""

Examine = Callable[[ThreadKey], Examined]
"""Returns what the kernel tells of a thread; raises Gone, or ReadError."""
ReadStacks = Callable[[int], tuple[Stack, ...]]
"""Returns the Python stacks of a process's threads; raises Unusable."""


class CloseUp:
    """Looks at one thread after the other, in a thread of its own."""

    def __init__(
        self, exporter: Exporter, examine: Examine, read_stacks: ReadStacks | None = None
    ) -> None:
        """``read_stacks``: None if Python stacks are switched off."""
        self._exporter = exporter
        self._examine = examine
        self._read_stacks = read_stacks
        self._aside = Aside("closeup")

    def thread(self, request: Request) -> Response | Awaitable[Response]:
        """Answer :data:`THREAD_PATH`: what the kernel tells of a thread."""
        found = self._find(request)
        return found if isinstance(found, Response) else self._run(self._look, *found)

    def stack(self, request: Request) -> Response | Awaitable[Response]:
        """Answer :data:`STACK_PATH`: the Python stack of a thread."""
        read_stacks = self._read_stacks
        if read_stacks is None:
            return plain(403, f"Python stacks are {SWITCHED_OFF} switches them on.")
        if HEADER not in request.headers:
            return plain(400, "Bad request: the header X-Threadwatch is missing.")
        found = self._find(request)
        if isinstance(found, Response):
            return found

        def ask(key: ThreadKey, thread: ThreadView) -> object:
            ((_, found),) = pair([thread], read_stacks(key[0].pid))
            return python_stack_json(found)

        return self._run(ask, *found)

    def _find(self, request: Request) -> tuple[ThreadKey, ThreadView] | Response:
        """Return the thread that a request is about, or the answer that says why there is none."""
        try:
            query = parse_qs(request.target.partition("?")[2], max_num_fields=16)
        except ValueError:  # there are more
            query = {}
        values = [query.get(key, [""])[-1] for key in _KEYS]
        if not all(value.isascii() and value.isdecimal() and len(value) < 20 for value in values):
            return plain(
                400, "Bad request: needs ?pid=N&tid=N&start_ticks=N, as the view has them."
            )
        pid, tid, start_ticks = map(int, values)
        view = self._exporter.view
        for process in view.processes if view is not None else ():
            if process.key.pid == pid:
                for thread in process.threads:
                    if (thread.tid, thread.start_ticks) == (tid, start_ticks):
                        return (process.key, tid, start_ticks), thread
        return _answer(None)

    async def _run(
        self,
        look: Callable[[ThreadKey, ThreadView], object],
        key: ThreadKey,
        thread: ThreadView,
    ) -> Response:
        try:
            async with asyncio.timeout(_SECONDS):
                found = await self._aside.run(lambda: look(key, thread))
        except Gone:
            return _answer(None)
        except (ReadError, Unusable) as error:
            return plain(502, f"Cannot be read: {error}.")
        except (TimeoutError, Busy):
            return plain(
                503, "Service unavailable: others are being looked at.", ("Retry-After", "1")
            )
        return _answer(found)

    def _look(self, key: ThreadKey, _thread: ThreadView) -> object:
        note = SWITCHED_OFF if self._read_stacks is None else ""
        return {**examined_json(self._examine(key)), "python_stack_note": note}


def _answer(document: object) -> Response:
    """Return the answer; None: there is no such thread (any more), which is no error."""
    return Response(200, _HEADERS, json.dumps(document, separators=(",", ":")).encode())
