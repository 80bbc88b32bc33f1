"""The rules that we ship, in more of a hurry: every duration is divided by a factor."""

from __future__ import annotations

import re
from typing import Final

_SECONDS: Final = {"m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(?<![\w.])(\d+)([mhd])(?!\w)")
_PRESENCE: Final = {"[1d:5m]": "[144s:500ms]", "interval: 5m": "interval: 500ms"}
"""A day is too long to be divided by the factor alone: 288 moments, as in the rule, half a second apart."""


def hurried(rules: str, factor: float) -> str:
    """Return the text of rules with durations in milliseconds: 5m becomes 3000ms by a factor of 100."""
    for long, short in _PRESENCE.items():
        assert long in rules
        rules = rules.replace(long, short)
    lines = []
    for line in rules.splitlines():
        code, mark, comment = (
            line.partition("#") if line.lstrip().startswith("#") else (line, "", "")
        )
        lines.append(_DURATION.sub(lambda found: _divided(found, factor), code) + mark + comment)
    return "\n".join(lines) + "\n"


def _divided(found: re.Match[str], factor: float) -> str:
    return f"{round(int(found[1]) * _SECONDS[found[2]] * 1000 / factor)}ms"
