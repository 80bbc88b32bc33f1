"""Real View values for tests of what shows them: a sample of each kind, hostile names, many series."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from threadwatch.model.keys import (
    HANDOVER_RESULTS,
    OTHER,
    UNATTRIBUTED,
    Place,
    ProcessKey,
    Python,
    SeriesKey,
    Source,
)
from threadwatch.model.loops import (
    CALLBACK,
    LAG_BUCKETS,
    LOOP,
    LoopTotals,
    LoopView,
    TaskCount,
    TaskTotals,
    TaskView,
)
from threadwatch.model.view import (
    POLL_BUCKETS,
    GroupView,
    Host,
    ProcessView,
    SeriesTotals,
    StateTime,
    Stats,
    ThreadView,
    View,
)
from threadwatch.web.health import Health
from threadwatch.web.messages import Handler, Request, Response

NOW_NS = 7_000_000_000_000
"""CLOCK_MONOTONIC of every view made here."""

PYTHON = Python("cpython", (3, 12, 1), free_threaded=False, gil=True)
FREE = Python("cpython", (3, 14, 0), free_threaded=True, gil=False)

HOSTILE: tuple[str, ...] = (
    *(f"a{chr(code)}b" for code in (*range(0x20), 0x7F, 0x85, 0xA0, 0xAD)),
    *(
        "\0",
        "\n",
        "\r",
        "\t",
        " ",
        " x ",
        '"',
        "\\",
        "\\n",
        '\\"',
        '"}',
        '",group="other',
        "{}",
        "#",
        "# EOF",
    ),
    *(
        "x 1\n# EOF\n",
        "x} 1",
        "a,b=c",
        "='",
        "Thread-1 (f)",
        "<script>alert(1)</script>",
        "&amp;",
        "\x1b[31m",
    ),
    *(
        "é",
        "名前",
        "😀",
        "\u200b",
        "\u2028",
        "\u202etxt.exe",
        "\ufeff",
        "\ufffd",
        "\uffff",
        "\U0010ffff",
    ),
    "n" * 1000,
)
"""Names that an application will give a thread, all different."""
SURROGATES = "\udc80\ud800"
"""A name that UTF-8 cannot hold."""


def health() -> Health:
    """Return the health of a daemon whose polls get on."""
    health = Health()
    health.polled()
    return health


def answered(handler: Handler, request: Request) -> Response:
    """Return the response of a handler that answers at once."""
    response = handler(request)
    assert isinstance(response, Response)
    return response


def thread_totals(**values: Any) -> SeriesTotals:
    """Totals of a thread that has done nothing, with nothing optional collected, but for ``values``."""
    nothing = SeriesTotals(
        user_ns=0,
        system_ns=0,
        runqueue_ns=None,
        timeslices=None,
        voluntary_switches=None,
        involuntary_switches=None,
        minor_faults=0,
        major_faults=0,
        read_bytes=None,
        write_bytes=None,
        started=0,
        ended=0,
        gil_held_ns=None,
        states={},
        now={},
    )
    return nothing._replace(**values)


def everything(number: int = 1) -> SeriesTotals:
    """Totals with every value collected, and all of them different."""
    return SeriesTotals(
        user_ns=1_500_000_001 * number,
        system_ns=250_000_002 * number,
        runqueue_ns=3_000_003 * number,
        timeslices=4_000 * number,
        voluntary_switches=5_000 * number,
        involuntary_switches=6_000 * number,
        minor_faults=7_000 * number,
        major_faults=8 * number,
        read_bytes=9_000_000 * number,
        write_bytes=10_000_000 * number,
        started=11 * number,
        ended=10 * number,
        states={
            "running": StateTime(
                threads=0, total_ns=1_750_000_000 * number, since_ns=NOW_NS - 1_000_000_000
            ),
            "gil": StateTime(threads=0, total_ns=40_000_000 * number, since_ns=NOW_NS),
            "sleeping": StateTime(threads=number, total_ns=0, since_ns=NOW_NS - 60_000_000_000),
        },
        gil_held_ns=90_000_000 * number,
        now={"running": 0, "gil": 0, "sleeping": number},
    )


def loop_totals(number: int = 1) -> LoopTotals:
    """Totals of loops with every value known, and all of them different."""
    return LoopTotals(
        tasks={
            "RequestResponseCycle.run_asgi": TaskTotals(
                1_400_000_000 * number, 1_600_000_000 * number, 0, TaskCount(number, 12 * number)
            ),
            "shop.pay": TaskTotals(
                100_000_000 * number, 700_000_000 * number, 500_000_000, TaskCount(0, 3)
            ),
            CALLBACK + "Transport._read_ready": TaskTotals(
                50_000_000 * number, 60_000_000, 0, None
            ),
            LOOP: TaskTotals(200_000_003 * number, 90_000_000 * number, 0, None),
        },
        lags=(500 * number, 3, 2, 1, *(0 for _ in LAG_BUCKETS[5:]), 1, 0),
        lag_sum_ns=9_123_000_000 * number,
        recent=((NOW_NS - 70_000_000_000, 9_000_000_000), (NOW_NS - 1_000_000_000, 40_000_000)),
        ready=2 * number,
        kinds=("asyncio", "uvloop"),
    )


def loop_view() -> LoopView:
    """Return a loop that a task has, which blocks it."""
    return LoopView(
        kind="asyncio",
        holder="shop.pay",
        age_ns=250_000_000,
        ready=2,
        tasks=(
            TaskView(LOOP, 200_000_003, 90_000_000, 0.01, 0.02, None),
            TaskView("Server.serve", 100, 200, 0.0, 0.0, TaskCount(0, 1)),
            TaskView("shop.pay", 1_000_000_000, 1_500_000_000, 0.4, 0.6, TaskCount(1, 12)),
        ),
    )


def group(name: str, series: Mapping[SeriesKey, SeriesTotals], **values: Any) -> GroupView:
    """Return a group of one process that publishes, but for ``values``."""
    used = sum(totals.user_ns + totals.system_ns for totals in series.values())
    published = sum(values.get("pythons", {PYTHON: 1}).values())
    names_from: dict[Source, int] = {
        "published": published,
        "comm": values.get("processes", 1) - published,
    }
    made = GroupView(
        name,
        per="group",
        cpu_ns=used,
        processes=1,
        names_from={source: count for source, count in names_from.items() if count},
        pythons={PYTHON: 1},
        series=series,
        dropped=0,
    )
    return made._replace(**values)


def view(*groups: GroupView, **values: Any) -> View:
    """Return the third view of a daemon that has nothing to complain about, but for ``values``."""
    made = View(
        sequence=3,
        time=1_795_392_000.25,
        monotonic_ns=NOW_NS,
        boottime_ns=NOW_NS,
        interval_ns=1_000_000_000,
        details=True,
        processes=(),
        groups=groups,
        thread_info=False,
        host=Host("testhost", 8, (1.5, 1.25, 1.0)),
        stats=Stats(
            polls=3,
            poll_cpu_ns=7_200_000,
            poll_duration_ns=9_300_000,
            poll_durations=(0, 2, 1, *(0 for _ in POLL_BUCKETS[2:])),
            reload_successful=True,
            reload_success_time=1_795_391_990.0,
        ),
    )
    return made._replace(**values)


def process(
    pid: int, group_name: str, *threads: tuple[int, str], source: str = "published"
) -> ProcessView:
    """Return a process of CPython 3.12 with ``threads`` as (TID, name)."""
    return ProcessView(
        key=ProcessKey(pid, 4_200),
        ppid=1,
        uid=1000,
        group=group_name,
        comm="python3",
        cmdline=("python3", "app.py"),
        names_from="published" if source == "published" else "comm",
        python=PYTHON if source == "published" else None,
        cpu_ns=2_000_000_000,
        cpu_ratio=0.5,
        threads=tuple(
            ThreadView(
                tid=tid,
                start_ticks=4_200,
                name=name,
                thread=re.sub("[0-9]+", "N", name),
                source="published" if source == "published" else "comm",
                comm="python3",
                state="sleeping",
                user_ns=1_500_000_000,
                system_ns=500_000_000,
                cpu_ratio=0.5,
                user_ratio=0.375,
                system_ratio=0.125,
                runqueue_ratio=0.01,
                gil_held_ratio=0.4,
                gil_wait_ratio=0.2,
                states={"running": 0.5, "runnable": 0.01, "gil": 0.2, "sleeping": 0.29},
                last_cpu=1,
            )
            for tid, name in threads
        ),
    )


def with_loop(process: ProcessView) -> ProcessView:
    """Return the process with a loop in its first thread."""
    first, *others = process.threads
    return replace(process, threads=(replace(first, loop=loop_view()), *others))


def sample() -> View:
    """Something of each kind: the view that the golden files show."""
    shop = {
        SeriesKey("MainThread"): everything(1)._replace(loop=loop_totals()),
        SeriesKey("ThreadPoolExecutor-N_N"): everything(4),
        SeriesKey('a "quoted"\\ name\nin two lines'): everything(2),
        SeriesKey(OTHER): thread_totals(user_ns=1),
        SeriesKey(UNATTRIBUTED): thread_totals(system_ns=2**60 + 1),
    }
    return view(
        group(
            "shop",
            shop,
            processes=3,
            pythons={PYTHON: 1, FREE: 1},
            dropped=12,
            places=frozenset(
                {
                    Place(unit="shop.service"),
                    Place(
                        "ab" * 32, "f6f2d169-f2ae-4afa-95ed-06ff2ed6b288", "cri-containerd.scope"
                    ),
                }
            ),
            ended_children_ns=1_250_000_000,
            throttled_ns=4_280_000_000,
        ),
        group(
            "worker",
            {SeriesKey("MainThread", pid=4711): everything(3)._replace(loop=loop_totals(3))},
            per="process",
        ),
        group(
            "import",
            {
                SeriesKey("reader 😀", pid=4712, tid=4713): everything(5)._replace(
                    loop=loop_totals(5)
                )
            },
            per="thread",
        ),
        group("gone", {}, processes=0, pythons={}),
        processes=(
            with_loop(
                process(4711, "worker", (4711, "MainThread"), (4714, "ThreadPoolExecutor-0_0"))
            ),
            process(4712, "import", (4713, "Thread-1 (f)")),
            process(4715, "shop", (4715, "python3"), source="comm"),
        ),
        thread_info=True,
        stats=view().stats._replace(
            read_errors={("table", "malformed"): 1, ("fd", "denied"): 20, ("stat", "emfile"): 3},
            handed_over={result: n for n, result in enumerate(HANDOVER_RESULTS)},
        ),
    )


def hostile() -> View:
    """Return every hostile name as a thread's, and as a group's."""
    threads = {SeriesKey(name): everything(n) for n, name in enumerate(HOSTILE, 1)}
    groups = (group(name, {SeriesKey("MainThread"): everything()}) for name in HOSTILE)
    return view(
        group("hostile", threads),
        *groups,
        processes=(process(1, '"\\\n', *enumerate(HOSTILE, 1)),),
        thread_info=True,
    )


def large(samples: int) -> View:
    """Return at least this many samples, of thread names with all that they can have."""
    per_series = 17
    return view(
        group(
            "shop",
            {
                SeriesKey(f"ThreadPoolExecutor-{number}_N"): everything(number + 1)
                for number in range(-(-samples // per_series))
            },
        )
    )
