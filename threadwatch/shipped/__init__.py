"""Finds the files that come along with the code: configuration, rules, dashboards, units, runbooks.

In a wheel they are in this package (pyproject.toml puts them there); in a checkout they are where they are
written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_PLACES: Final = {
    "threadwatch.yml": "config/threadwatch.yml",
    "web.yml": "config/web.yml",
    "prometheus": "config/prometheus",
    "grafana": "config/grafana",
    "systemd": "systemd",
    "runbooks": "docs/runbooks",
}
"""By the name of a file or directory in this package: where it is in a checkout."""


def shipped() -> dict[str, Path]:
    """Return all files by their names, such as ``prometheus/rules/threadwatch.yml``."""
    found: dict[str, Path] = {}
    for name, place in _PLACES.items():
        top = _HERE / name
        if not top.exists():
            top = _HERE.parent.parent / place
        if top.is_file():
            found[name] = top
        for path in sorted(top.rglob("*")):
            if path.is_file():
                found[f"{name}/{path.relative_to(top).as_posix()}"] = path
    return found


def runbooks() -> dict[str, str]:
    """Return the text of each alert's page, in Markdown, by its name without ``.md``."""
    return {
        path.stem: path.read_text(encoding="utf-8")
        for name, path in shipped().items()
        if name.startswith("runbooks/")
    }
