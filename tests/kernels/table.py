"""What held where: outcomes of checks as lines of JSON, and as a table with a column for each kernel."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Verdict = Literal["held", "failed", "cannot run"]
_SHOWN: dict[Verdict, str] = {"held": "held", "failed": "DID NOT HOLD", "cannot run": "–"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check has come to on one kernel."""

    check: str
    verdict: Verdict
    detail: str = ""
    """Why it did not hold, or cannot run; or figures."""
    seconds: float = 0.0


def to_line(outcome: Outcome) -> str:
    """Return the outcome as one line."""
    return json.dumps(asdict(outcome))


def from_line(line: str) -> Outcome:
    """Return the outcome that a line has.

    :raises ValueError: the line is none of :func:`to_line`.
    """
    try:
        return Outcome(**json.loads(line))
    except TypeError as error:
        raise ValueError(f"no outcome: {line!r}") from error


def has_failed(checks: Sequence[str], columns: Mapping[str, Mapping[str, Outcome]]) -> bool:
    """Return whether a check did not hold on a kernel, or has said nothing there."""
    return any(_failed(column.get(check)) for column in columns.values() for check in checks)


def table(checks: Sequence[str], columns: Mapping[str, Mapping[str, Outcome]]) -> Iterable[str]:
    """Yield the lines: a row for each check, a column for each kernel; below, why it did not hold."""
    rows = [["", *columns]]
    rows += [
        [check, *(_cell(column.get(check)) for column in columns.values())] for check in checks
    ]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for name, column in columns.items():
        for check in checks:
            outcome = column.get(check)
            if outcome is None:
                yield f"{name}: {check}: the machine said nothing of it"
            elif outcome.verdict != "held":
                yield f"{name}: {check}: {_SHOWN[outcome.verdict]}: {outcome.detail}"


def _cell(outcome: Outcome | None) -> str:
    return "NO ANSWER" if outcome is None else _SHOWN[outcome.verdict]


def _failed(outcome: Outcome | None) -> bool:
    return outcome is None or outcome.verdict == "failed"
