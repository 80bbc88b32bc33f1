"""Defines the states of a thread, one row each: every part and every output takes what it needs from here.

A new reason to wait is a row here, a rule in :mod:`threadwatch.waits` (a list of calls in ``syscalls`` or a
line in ``reasons``) and a line in ``docs/metrics.md``. ``./dev states`` then writes the files that are not
Python. ``tests/contract/test_states.py`` names what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType


class Kind(Enum):
    """The part that a state plays in a thread's work."""

    RUNNING = "running"
    """It works."""
    KEPT = "kept"
    """It wants to work and is kept from it: what a person looks for."""
    IDLE = "idle"
    """It waits, as threads do that have no work."""
    WAIT = "wait"
    """It waits in the middle of its work."""
    HALTED = "halted"
    """It cannot work: it is stopped, or has ended."""


@dataclass(frozen=True, slots=True)
class Top:
    """The state in ``threadwatch top``."""

    place: int
    """Its place in bars and lists, the lowest first. Steps of ten leave room for others."""
    letter: str
    """The letter for it without colours."""
    meaning: str
    colour: str
    """``#rrggbb``, of middling brightness: terminals and dashboards are light or dark."""


@dataclass(frozen=True, slots=True)
class Page:
    """The state on the status page: see :class:`Top`."""

    place: int
    meaning: str
    light: str
    """Its colour on the light page."""
    dark: str


@dataclass(frozen=True, slots=True)
class Grafana:
    """The state on dashboards, where it has its colour in ``top``."""

    number: int
    """Its number in timelines, and its place in legends: 1, 2, 3 … without a gap."""


@dataclass(frozen=True, slots=True)
class State:
    """An activity of a thread, or a reason to wait."""

    name: str
    """Its name in metrics, in JSON and in all outputs."""
    kind: Kind
    top: Top
    page: Page
    grafana: Grafana
    kernel: str = ""
    """The letters of ``stat``, field 3 (proc_pid_stat(5)), that mean it."""


STATES = (
    State(
        "running",
        Kind.RUNNING,
        Top(10, "R", "uses a CPU", "#2b88c8"),
        Page(10, "runs on a CPU", "#0072b2", "#3f9fe0"),
        Grafana(1),
        kernel="R",
    ),
    State(
        "gil",
        Kind.KEPT,
        Top(30, "G", "waits for the GIL", "#e0661a"),
        Page(30, "waits for the GIL", "#d55e00", "#f0762b"),
        Grafana(3),
    ),
    State(
        "runnable",
        Kind.KEPT,
        Top(20, "Q", "ready, queues for a CPU", "#7cc0ec"),
        Page(20, "ready to run, but no CPU is free", "#56b4e9", "#a3d8f7"),
        Grafana(2),
    ),
    State(
        "disk",
        Kind.KEPT,
        Top(110, "D", "waits for a device, cannot be stopped", "#c56fa5"),
        Page(50, "waits for a device", "#b8578f", "#dd8fbd"),
        Grafana(5),
        kernel="D",
    ),
    State(
        "sleep",
        Kind.IDLE,
        Top(90, "S", "waits for a time", "#8a9199"),
        Page(110, "waits for a time", "#d3d9df", "#3a424c"),
        Grafana(11),
    ),
    State(  # a wait whose reason cannot be seen, or has not been yet
        "sleeping",
        Kind.IDLE,
        Top(140, "W", "waits, for what cannot be seen", "#a2a9b1"),
        Page(120, "waits, and why cannot be seen", "#c0c8d0", "#48515b"),
        Grafana(12),
        kernel="S",
    ),
    State(
        "poll",
        Kind.IDLE,
        Top(50, "P", "waits for any of several events", "#3aa888"),
        Page(70, "waits for any of several events", "#2fa886", "#4cc3a1"),
        Grafana(9),
    ),
    State(
        "lock",
        Kind.IDLE,
        Top(40, "L", "waits for a lock, a queue, an event", "#b8a35f"),
        Page(40, "waits for a lock", "#d8c690", "#6f6546"),
        Grafana(4),
    ),
    State(
        "socket",
        Kind.IDLE,
        Top(60, "N", "waits for the network", "#0f8a68"),
        Page(60, "waits for a socket", "#00795a", "#1e9e78"),
        Grafana(6),
    ),
    State(
        "pipe",
        Kind.IDLE,
        Top(70, "I", "waits for a pipe", "#5fb8a0"),
        Page(80, "waits for a pipe", "#74c7b0", "#82d8c0"),
        Grafana(7),
    ),
    State(
        "child",
        Kind.IDLE,
        Top(100, "C", "waits for a child process", "#8d98a3"),
        Page(100, "waits for a child process", "#a9b4bf", "#56606b"),
        Grafana(10),
    ),
    State(
        "file",
        Kind.WAIT,
        Top(80, "F", "waits for a file", "#7fb8a6"),
        Page(90, "waits for a file", "#a5ddcd", "#b6e8d9"),
        Grafana(8),
    ),
    State(  # a wait that has no name here
        "other",
        Kind.WAIT,
        Top(150, "O", "waits for something else", "#8a94a0"),
        Page(150, "waits for something that has no name here", "#8a94a0", "#7d8794"),
        Grafana(15),
    ),
    State(
        "stopped",
        Kind.HALTED,
        Top(120, "T", "is stopped, or traced", "#7b858f"),
        Page(130, "is stopped", "#59636e", "#c9d1d9"),
        Grafana(13),
        kernel="Tt",
    ),
    State(
        "zombie",
        Kind.HALTED,
        Top(130, "Z", "has ended", "#8a8f98"),
        Page(140, "has ended", "#3d444d", "#f0f3f6"),
        Grafana(14),
        kernel="ZXx",
    ),
)
"""All states: by kind, and in each kind the most usual first."""

NAMES = tuple(state.name for state in sorted(STATES, key=lambda state: state.top.place))
"""All names, in the order of ``top``, as texts list them."""

AWAKE = frozenset({"running", "runnable"})
"""States whose time the kernel counts; samples tell of the others."""


def of_kind(*kinds: Kind) -> tuple[str, ...]:
    """Return the names of the states of these kinds."""
    return tuple(state.name for state in STATES if state.kind in kinds)


OF_LETTER: Mapping[str, str] = MappingProxyType(
    {letter: state.name for state in STATES for letter in state.kernel}
)
"""Letters of the kernel → names of states; every other letter is ``other``. Of a thread that is
``sleeping``, samples can say why (:class:`threadwatch.model.readings.Waits`)."""
