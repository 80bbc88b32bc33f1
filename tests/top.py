"""What tests of ``threadwatch top`` share: views that follow one another, and a source that gives them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.views import HOSTILE, NOW_NS, process, view
from threadwatch.errors import Gone, Unusable
from threadwatch.model.closeup import Examined
from threadwatch.model.keys import ProcessKey, ThreadKey
from threadwatch.model.view import ProcessView, ThreadView, View
from threadwatch.stacks.dump import Frame, Stack
from threadwatch.top.columns import Span
from threadwatch.top.source import Wait

EXAMINED = Examined(
    syscall="futex",
    arguments="(0x7f0000000010, 0x189, 0x0, 0x0, 0x0, 0xffffffff)",
    wchan="futex_wait_queue",
    cpus="0-3",
    voluntary_switches=1234,
    involuntary_switches=56,
    stack=("futex_wait_queue+0x5f/0xa0", "do_futex+0x100/0x1a0"),
    stack_note="",
)


def thread(tid: int, name: str, **values: Any) -> ThreadView:
    """Return a thread that sleeps, but for ``values``."""
    (made,) = process(tid, "any", (tid, name)).threads
    asleep: dict[str, Any] = {
        "state": "sleep",
        "cpu_ratio": 0.0,
        "user_ratio": 0.0,
        "system_ratio": 0.0,
        "runqueue_ratio": 0.0,
        "gil_held_ratio": 0.0,
        "gil_wait_ratio": 0.0,
        "states": {"sleep": 1.0},
        "user_ns": 0,
        "system_ns": 0,
    }
    return replace(made, **(asleep | values))


def busy(tid: int, name: str, cpu: float, wait: float = 0.0, **values: Any) -> ThreadView:
    """Return a thread that runs ``cpu`` of the time, waits ``wait`` of it for the GIL, else sleeps."""
    states = {"running": cpu, "gil": wait, "sleep": 1.0 - cpu - wait}
    given: dict[str, Any] = {
        "state": "running",
        "cpu_ratio": cpu,
        "user_ratio": cpu,
        "gil_held_ratio": cpu,
        "gil_wait_ratio": wait,
        "states": {state: share for state, share in states.items() if share},
    }
    return thread(tid, name, **(given | values))


def running(pid: int, group: str, *threads: ThreadView, **values: Any) -> ProcessView:
    """Return a process with these threads."""
    cpu = sum(one.cpu_ratio or 0.0 for one in threads)
    made = process(pid, group)
    return replace(made, threads=threads, **({"cpu_ratio": cpu} | values))


def poll(number: int, *processes: ProcessView, **values: Any) -> View:
    """Return the view of poll ``number``; one second after the one before."""
    return view(
        sequence=number,
        time=1_795_392_000.0 + number,
        monotonic_ns=NOW_NS + number * 1_000_000_000,
        boottime_ns=NOW_NS + number * 1_000_000_000,
        processes=processes,
        **values,
    )


def shop(number: int = 1) -> View:
    """Return an application of two processes, and another one."""
    return poll(
        number,
        running(
            100,
            "shop",
            busy(101, "price-engine", 0.25, 0.125, user_ns=9_000_000_000),
            busy(102, "http_0", 0.125, 0.5, state="gil"),
            thread(103, "housekeeping"),
            thread(104, "native-io", source="comm", comm="native-io"),
        ),
        running(200, "shop", busy(200, "MainThread", 0.0625), ppid=100),
        running(300, "cron", thread(300, "MainThread", state="poll", states={"poll": 1.0})),
    )


def hostile(number: int = 1) -> View:
    """Names that try everything, as names of threads, comms and groups."""
    markup = ("[red]x[/red]", "[@click=app.quit]x[/]", "[/]", "[bold", "名前" * 40, "\x1b]0;x\x07")
    names = (*HOSTILE, *markup)
    return poll(
        number,
        *(
            running(
                1000 + place,
                name,
                thread(1000 + place, name, comm=name),
                thread(5000 + place, name, source="comm", comm=name),
                cmdline=(name, name),
                comm=name,
            )
            for place, name in enumerate(names)
        ),
    )


def many(processes: int, each: int, number: int = 1) -> View:
    """Make this many processes with this many threads each, one in ten of them busy."""
    return poll(
        number,
        *(
            running(
                10_000 * place,
                f"app-{place:03}",
                *(
                    busy(10_000 * place + at, f"worker-{at}", 0.01 * ((at + number) % 7 + 1))
                    if at % 10 == 0
                    else thread(10_000 * place + at, f"worker-{at}")
                    for at in range(each)
                ),
            )
            for place in range(1, processes + 1)
        ),
    )


def text(line: Sequence[Span]) -> str:
    """Return a line without its styles."""
    return "".join(span.text for span in line)


class Scripted:
    """A source that gives what a test puts into it."""

    where = "testhost"
    own_pid: int | None = None

    def __init__(self, *views: View) -> None:
        self._given: deque[View | Unusable] = deque(views)
        self._more = threading.Semaphore(len(views))
        self.examined: dict[ThreadKey, Examined | str] = {}
        self.closed = False

    def give(self, what: View | Unusable) -> None:
        """Have the next poll give, or raise, that."""
        self._given.append(what)
        self._more.release()

    def next(self, wait: Wait) -> View | None:
        """See :class:`threadwatch.top.source.Source`."""
        while not self._more.acquire(timeout=0.02):
            if wait(0):
                return None
        what = self._given.popleft()
        if isinstance(what, Unusable):
            raise what
        return what

    def examine(self, key: ThreadKey) -> Examined | str:
        """See :class:`threadwatch.top.source.Source`; a thread of PID 1 has ended."""
        if key[0] == ProcessKey(1, 4_200):
            raise Gone
        return self.examined.get(key, EXAMINED)

    def stack(self, key: ThreadKey) -> Stack | None:
        """See :class:`threadwatch.top.source.Source`; a process's first thread runs no Python."""
        process, tid, _ = key
        if tid == process.pid:
            return None
        return Stack(tid, "http_0", True, (Frame("Shop.answer", "/srv/shop/web.py", 71),))

    def notes(self) -> str:
        """See :class:`threadwatch.top.source.Source`."""
        return ""

    def close(self) -> None:
        """See :class:`threadwatch.top.source.Source`."""
        self.closed = True
