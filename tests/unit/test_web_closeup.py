"""A close look at one thread over HTTP: only what the view has, one at a time; refusals are one line."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest

from tests import views
from tests.top import EXAMINED
from threadwatch.errors import Denied, Gone, Unusable
from threadwatch.metrics.exporter import Exporter
from threadwatch.model.closeup import Examined
from threadwatch.model.keys import ProcessKey, ThreadKey
from threadwatch.stacks.dump import Frame, Stack
from threadwatch.web.app import App
from threadwatch.web.aside import Aside, Busy
from threadwatch.web.closeup import CloseUp
from threadwatch.web.messages import Request, Response

KNOWN = "pid=4711&tid=4714&start_ticks=4200"
OURS = {"x-threadwatch": ""}
STACK = Stack(4714, "ThreadPoolExecutor-0_0", True, (Frame("answer", "/srv/shop.py", 71),))


def ask(
    target: str,
    method: str = "GET",
    *,
    examine: Callable[[ThreadKey], Examined] = lambda _: EXAMINED,
    read_stacks: Callable[[int], tuple[Stack, ...]] | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Response:
    """Return the answer of a daemon that has a view of a few threads."""
    exporter = Exporter()
    exporter.publish(views.sample())
    app = App(exporter, views.health(), closeup=CloseUp(exporter, examine, read_stacks))

    async def answer() -> Response:
        response = app(Request(method, target, headers))
        return response if isinstance(response, Response) else await response

    return asyncio.run(answer())


def document(response: Response) -> Any:
    """Return the JSON of an answer."""
    assert response.status == 200, response.body
    return json.loads(response.body)


def test_what_the_kernel_tells() -> None:
    """System call, stack, CPUs and switches come from that very thread, without the call's arguments."""
    asked: list[ThreadKey] = []

    def examine(key: ThreadKey) -> Examined:
        asked.append(key)
        return EXAMINED

    told = document(ask(f"/api/v1/thread?{KNOWN}", examine=examine))
    assert asked == [(ProcessKey(4711, 4200), 4714, 4200)]
    assert told == {
        "syscall": "futex",
        "wchan": "futex_wait_queue",
        "cpus": "0-3",
        "voluntary_switches": 1234,
        "involuntary_switches": 56,
        "stack": ["futex_wait_queue+0x5f/0xa0", "do_futex+0x100/0x1a0"],
        "stack_note": "",
        "python_stack_note": "not switched on: threadwatch serve --web.enable-stacks",
    }
    told = document(ask(f"/api/v1/thread?{KNOWN}", read_stacks=lambda _: ()))
    assert told["python_stack_note"] == ""


@pytest.mark.parametrize(
    "query",
    [
        "",
        "pid=4711&tid=4714",
        "pid=-1&tid=4714&start_ticks=1",
        "pid=4711&tid=x&start_ticks=1",
        "pid=%D9%A1&tid=1&start_ticks=1",
        "pid=" + 5000 * "1" + "&tid=1&start_ticks=1",
        "&".join(f"pid={n}" for n in range(100)),
    ],
)
def test_a_query_that_names_no_thread(query: str) -> None:
    """Without the three numbers the answer is 400, and says what is needed."""
    response = ask(f"/api/v1/thread?{query}")
    assert (response.status, b"?pid=N&tid=N&start_ticks=N" in response.body) == (400, True)


@pytest.mark.parametrize(
    "query",
    [
        "pid=4711&tid=4715&start_ticks=4200",
        "pid=4711&tid=4714&start_ticks=4201",
        "pid=1&tid=1&start_ticks=4200",
    ],
)
def test_only_threads_of_the_view(query: str) -> None:
    """A thread that the last poll has not seen, or another one of that number, is null, and not looked at."""
    looked: list[ThreadKey] = []

    def examine(key: ThreadKey) -> Examined:
        looked.append(key)
        return EXAMINED

    assert document(ask(f"/api/v1/thread?{query}", examine=examine)) is None
    assert looked == []


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (Gone(), 200, b"null"),
        (Denied("status"), 502, b"Cannot be read: status: denied."),
        (Unusable("py-spy is not installed: pip"), 502, b"Cannot be read: py-spy is not installed"),
    ],
)
def test_what_cannot_be_read(error: Exception, status: int, words: bytes) -> None:
    """Each reason why nothing can be told is one line."""

    def fail(_: object) -> Any:
        raise error

    for response in (
        ask(f"/api/v1/thread?{KNOWN}", examine=fail),
        ask(f"/api/v1/stack?{KNOWN}", "POST", read_stacks=fail, headers=OURS),
    ):
        assert (response.status, words in response.body) == (status, True)
        assert response.body.strip().count(b"\n") == 0


def test_the_python_stack() -> None:
    """It is that of the thread that is asked about; null where no Python code runs."""
    for stacks, told in (
        (
            (STACK,),
            {
                "holds_gil": True,
                "frames": [{"function": "answer", "file": "/srv/shop.py", "line": 71}],
            },
        ),
        ((), {"holds_gil": False, "frames": None}),
    ):
        response = ask(
            f"/api/v1/stack?{KNOWN}",
            "POST",
            read_stacks=lambda pid, stacks=stacks: stacks if pid == 4711 else (),  # type: ignore[misc]  # the default binds it
            headers=OURS,
        )
        assert document(response) == told


def test_nobody_reads_stacks_unless_it_is_switched_on() -> None:
    """Switched off, the answer is 403 and says what switches it on."""
    response = ask(f"/api/v1/stack?{KNOWN}", "POST", headers=OURS)
    assert (response.status, b"--web.enable-stacks" in response.body) == (403, True)


def test_no_other_page_can_ask_for_a_stack() -> None:
    """What a browser sends for another origin's page, a GET or a POST without the header, reads nothing."""
    read: list[int] = []

    def read_stacks(pid: int) -> tuple[Stack, ...]:
        read.append(pid)
        return ()

    response = ask(f"/api/v1/stack?{KNOWN}", read_stacks=read_stacks)
    assert (response.status, ("Allow", "POST") in response.headers) == (405, True)
    assert ask(f"/api/v1/stack?{KNOWN}", "POST", read_stacks=read_stacks).status == 400
    assert ask(f"/api/v1/stack?{KNOWN}", "OPTIONS", read_stacks=read_stacks).status == 405
    assert read == []


def test_one_call_at_a_time() -> None:
    """Calls run one by one in one thread; one too many is refused; one that was cancelled never begins."""
    go = threading.Event()
    ran: list[int] = []

    def call(number: int) -> int:
        go.wait()
        ran.append(number)
        return number

    async def test() -> None:
        aside = Aside("aside")
        tasks = [asyncio.create_task(aside.run(lambda n=n: call(n))) for n in range(16)]  # type: ignore[misc]  # the default binds it
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await aside.run(lambda: 99)
        tasks[7].cancel()
        await asyncio.sleep(0)
        go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results.pop(7), asyncio.CancelledError)
        assert results == ran == [n for n in range(16) if n != 7]
        assert await aside.run(lambda: 5) == 5
        with pytest.raises(ZeroDivisionError):
            await aside.run(lambda: 1 // 0)

    asyncio.run(test())
