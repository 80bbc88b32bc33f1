"""The loads that polls are measured under, and the goals that they are measured against."""

from __future__ import annotations

from dataclasses import dataclass

PERIOD = 0.4
"""Seconds between an active thread's moments of work: each runs a few times between two polls."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A load, and how the daemon is told to watch it."""

    name: str
    what: str
    load: tuple[str, ...]
    """Arguments of :mod:`benchmarks.load`."""
    published: bool = True
    per: str = "group"
    quick: bool = False
    """Whether it belongs to the quick version."""
    poll_goal_ms: float | None = None
    """CPU time per poll that is not to be exceeded, on average."""
    resident_goal_mib: float | None = None
    many_polls: bool = False
    """Whether the long version takes enough polls for a 99th percentile."""


def load(
    processes: int,
    threads: int,
    *,
    active: int = 0,
    in_processes: int = 1,
    work: float = 0.0001,
) -> tuple[str, ...]:
    """Arguments for a load whose threads sleep, but for some active ones."""
    arguments = [f"--processes={processes}", f"--threads={threads}"]
    if active:
        arguments += [f"--active={active}", f"--active-processes={in_processes}"]
        arguments += [f"--period={PERIOD}", f"--work={work}"]
    return tuple(arguments)


SCENARIOS = (
    Scenario("1 process", "no load but one process of one thread", load(1, 0)),
    Scenario(
        "1 × 1,001 asleep",
        "1 process of 1,001 threads that sleep",
        load(1, 1000),
        quick=True,
        resident_goal_mib=45,
    ),
    Scenario(
        "10 × 1,001 asleep",
        "10 processes of 1,001 threads that sleep",
        load(10, 1000),
        quick=True,
        poll_goal_ms=0.7,
        resident_goal_mib=70,
        many_polls=True,
    ),
    Scenario(
        "the same, not published",
        "as before, without a publisher",
        load(10, 1000),
        published=False,
        poll_goal_ms=0.7,
        resident_goal_mib=70,
    ),
    Scenario(
        "10 × 1,001, 27 active",
        "as before, and 27 threads in 3 of the processes wake every 0.4 s and work for 0.1 ms",
        load(10, 1000, active=27, in_processes=3),
        quick=True,
        poll_goal_ms=2.5,
        resident_goal_mib=70,
        many_polls=True,
    ),
    Scenario(
        "10 × 1,001, all active",
        "all 10,000 threads but the main ones wake every 0.4 s",
        load(10, 1000, active=10_000, in_processes=10, work=0),
        quick=True,
        poll_goal_ms=0.006 * 10_010,
        resident_goal_mib=70,
        many_polls=True,
    ),
    Scenario(
        "1,000 × 10 asleep",
        "1,000 processes of 10 threads that sleep",
        load(1000, 9),
        quick=True,
        many_polls=True,
    ),
    Scenario(
        "30 × 1,000 asleep",
        "30 processes of 1,000 threads that sleep",
        load(30, 999),
    ),
    Scenario(
        "churn, 2,000 per second",
        "1 process whose 20 threads start 2,000 threads per second, each of 0.1 ms of CPU",
        ("--churn=2000", "--work=0.0001"),
        quick=True,
        many_polls=True,
    ),
    Scenario(
        "1 × 1,001 asleep, a series for each",
        "as with one process, but the daemon is told to keep the threads apart (per: thread)",
        load(1, 1000),
        per="thread",
    ),
)

SWEEP_THREADS = (1000, 2000, 5000, 10_000, 20_000, 30_000)
"""Numbers of sleeping threads that polls are plotted against, in processes of 1,000."""
SWEEP_ACTIVE = (0, 10, 30, 100, 300, 1000, 3000, 10_000)
"""Numbers of active ones of 10,010."""
