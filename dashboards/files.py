"""The files that Grafana imports: one for each dashboard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from dashboards import application, daemon, fleet, gil
from dashboards.grid import Json

DIRECTORY: Final = Path(__file__).resolve().parent.parent / "config" / "grafana" / "dashboards"


def built() -> dict[str, Json]:
    """Return each dashboard, by its file's name."""
    return {
        "fleet.json": fleet.build(),
        "application.json": application.build(),
        "gil.json": gil.build(),
        "daemon.json": daemon.build(),
    }


def files() -> dict[str, str]:
    """Return the text of each file, by its name."""
    return {name: json.dumps(made, indent=2) + "\n" for name, made in built().items()}
