"""``python -m states``: write the parts of files that are made from :mod:`threadwatch.model.states`.

Each part stands between two lines, ``made by ./dev states: begin`` and ``made by ./dev states: end``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from threadwatch.model.states import STATES

CHECKOUT: Final = Path(__file__).resolve().parent.parent
STATIC: Final = CHECKOUT / "threadwatch" / "web" / "static"

_PART: Final = re.compile(
    r"^(?P<begin>.*made by \./dev states: begin.*\n)(?:.*\n)*?(?P<end>.*made by \./dev states: end)",
    re.MULTILINE,
)
_ON_PAGE: Final = sorted(STATES, key=lambda state: state.page.place)
_IN_TOP: Final = sorted(STATES, key=lambda state: state.top.place)
_COLUMNS: Final = 3
"""How many states one line of the table in ``docs/top.md`` has."""


def parts() -> dict[Path, tuple[list[str], ...]]:
    """Return the lines of each part of each file, in the order of the parts."""
    return {
        STATIC / "states.js": (_script(),),
        STATIC / "page.css": (_variables(), _rules()),
        CHECKOUT / "docs" / "top.md": (_table(),),
    }


def filled(text: str, made: tuple[list[str], ...]) -> str:
    """Return the text of a file with these parts in the place of those that it has.

    :raises ValueError: it has more parts, or fewer.
    """
    found = list(_PART.finditer(text))
    if len(found) != len(made):
        raise ValueError(f"has {len(found)} parts that ./dev states makes, not {len(made)}")
    new = iter(made)
    return _PART.sub(
        lambda part: part["begin"] + "".join(f"{line}\n" for line in next(new)) + part["end"], text
    )


def main() -> None:
    """Write all parts."""
    for path, made in parts().items():
        text = path.read_text(encoding="utf-8")
        path.write_text(filled(text, made), encoding="utf-8")


def _script() -> list[str]:
    pairs = (json.dumps([state.name, state.page.meaning]) for state in _ON_PAGE)
    return ["export const STATES = [", *(f"  {pair}," for pair in pairs), "];"]


def _variables() -> list[str]:
    return [
        f"  --{state.name}: light-dark({state.page.light}, {state.page.dark});"
        for state in _ON_PAGE
    ]


def _rules() -> list[str]:
    return [
        f".is-{state.name} {{ background: var(--{state.name}); fill: var(--{state.name}); }}"
        for state in _ON_PAGE
    ]


def _table() -> list[str]:
    cells = [f"`{state.top.letter}` | {state.top.meaning}" for state in _IN_TOP]
    rows = [cells[start : start + _COLUMNS] for start in range(0, len(cells), _COLUMNS)]
    rows[-1] += [" | "] * (_COLUMNS - len(rows[-1]))
    heading = "|" + " |" * 2 * _COLUMNS
    return [heading, "|" + "---|" * 2 * _COLUMNS, *(f"| {' | '.join(row)} |" for row in rows)]


if __name__ == "__main__":
    main()
