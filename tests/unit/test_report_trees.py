"""The trees of processes that ``ps`` shows, whatever shape a target has given them."""

from __future__ import annotations

import time

from tests.views import PYTHON, with_loop
from tests.views import process as views_process
from threadwatch.model.keys import ProcessKey
from threadwatch.model.view import ProcessView
from threadwatch.words.ps_text import report


def process(pid: int, ppid: int) -> ProcessView:
    """Return a process of one application."""
    return ProcessView(
        key=ProcessKey(pid, 1),
        ppid=ppid,
        uid=0,
        group="app",
        comm="app",
        cmdline=("app", str(ppid)),
        names_from="published",
        python=PYTHON,
        cpu_ns=0,
        cpu_ratio=None,
        threads=(),
    )


def lines(*processes: ProcessView) -> list[str]:
    """Return the lines of the processes."""
    return [line for line in report(processes, columns=None, color=False) if "PID" in line]


def pids(*processes: ProcessView) -> list[int]:
    """Return the PIDs in the order in which they are shown."""
    return [int(line.split("PID ")[1].split()[0]) for line in lines(*processes)]


def test_children_stand_behind_their_parents() -> None:
    """Each process comes right behind its parent and its parent's earlier children."""
    family = [process(*both) for both in ((1, 0), (2, 1), (3, 1), (4, 2), (5, 0), (6, 2))]
    assert pids(*family) == [1, 2, 4, 6, 3, 5]


def test_a_chain_without_end() -> None:
    """Five thousand generations are shown, in good time, and no further to the right than a few."""
    chain = [process(pid, pid - 1) for pid in range(1, 5001)]
    begin = time.process_time()
    shown = lines(*reversed(chain))
    assert time.process_time() - begin < 5
    assert len(shown) == 5000
    assert max(map(len, shown)) < 120


def test_a_parent_that_is_its_childs_child() -> None:
    """PIDs that were used again while they were read can say so: each process is shown once all the same."""
    assert sorted(pids(process(1, 2), process(2, 1), process(3, 3), process(4, 3))) == [1, 2, 3, 4]


def test_tasks_stand_under_their_thread() -> None:
    """A thread with a loop has its utilization and lag, and a line for each task, the busiest first."""
    shop = with_loop(views_process(1, "shop", (1, "MainThread"), (2, "pool_0")))
    _, _, _, head, main, *tasks, pool = report([shop], columns=None, color=False)
    assert head.split()[:6] == ["TID", "THREAD", "COMM", "STATE", "CPU", "%"]
    assert "LOOP HELD" in head
    assert main.split()[:6] == ["1", "MainThread", "python3", "sleeping", "50.0", "62.0"]
    assert main.split()[6] == "250"
    assert [line.split()[1] for line in tasks] == ["shop.pay", "(loop)", "Server.serve"]
    assert tasks[0].split()[2:] == ["1", "ready,", "12", "waiting", "40.0", "60.0", "1.00"]
    assert pool.split()[:2] == ["2", "pool_0"]


def test_a_narrow_terminal_shows_tasks_too() -> None:
    """Lines of tasks are as wide as those of threads, and no wider than the terminal."""
    shop = with_loop(views_process(1, "shop", (1, "MainThread"), (2, "pool_0")))
    shown = list(report([shop], columns=80, color=False))
    assert any("shop.pay" in line for line in shown)
    assert max(map(len, shown)) <= 80
