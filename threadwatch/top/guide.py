"""Writes the text of the help screen."""

from __future__ import annotations

from threadwatch.model.states import NAMES
from threadwatch.top.bars import LETTERS, MEANINGS, letters
from threadwatch.top.columns import Span
from threadwatch.top.history import WINDOW
from threadwatch.top.order import SORTS
from threadwatch.words.text import pad

_KEYS = (
    ("↑ ↓ PgUp PgDn Home End", "move; the cursor stays on its thread, wherever that goes"),
    ("Enter", "one thread in detail; of a process or group: fold"),
    ("s", "in detail: which Python code it runs, by py-spy"),
    ("→ ←  + −", "open and close a group or process; ← goes to what a row belongs to"),
    ("*", "close all, open all"),
    ("t  F5", "tree, or all threads in one list"),
    ("i", "hide idle threads, show them again"),
    ("/  F4", "filter: by name, comm, TID, PID, state, application; a|b is either; Esc ends it"),
    ("<  >  F6", "order by the next column"),
    ("I", "the other way round"),
    ("Space", "pause: what is shown stands still"),
    ("q  F10  Ctrl-C", "quit"),
)
_COLUMNS = (
    ("CPU %", "CPU time, as a share of one CPU, since the poll before"),
    ("GIL HELD", "share of the time that it held the GIL, by samples"),
    ("GIL WAIT", "share of the time that it waited for the GIL, by samples"),
    ("READY", "share of the time that it was ready to run, but no CPU was free"),
    ("CPU TIME", "in its life so far"),
    ("LAST CPU", "the CPU that it ran on last"),
    ("(name)", "the kernel's comm: no Python name is known for that thread"),
)


def guide() -> list[list[Span]]:
    """Return the lines."""
    lines: list[list[Span]] = [[Span("Keys", "title")]]
    lines += (_entry(key, what) for key, what in _KEYS)
    orders = "   ".join(f"{sort.key} {sort.what}" for sort in SORTS[:4])
    more = "   ".join(f"{sort.key} {sort.what}" for sort in SORTS[4:])
    lines += (_entry("order by", orders), _entry("", more))
    lines += ([], [Span(f"Where the time went, in the last {WINDOW:.0f} seconds", "title")])
    lines += (
        [
            Span("  "),
            Span(letters(state, 4), f"bar-{state}"),
            Span("  "),
            Span(pad(state, 10), f"state-{state}"),
            Span(f"{LETTERS[state]}  ", "dim"),
            Span(MEANINGS[state]),
        ]
        for state in NAMES
    )
    lines += ([], [Span("Columns", "title")])
    lines += (_entry(name, what) for name, what in _COLUMNS)
    return lines


def _entry(key: str, what: str) -> list[Span]:
    return [Span("  "), Span(pad(key, 24), "key"), Span(what, "")]
