"""The commands that docs/systemd.md tells root to type."""

from __future__ import annotations

import re

from tests.testbed import CHECKOUT


def steps() -> dict[str, list[str]]:
    """Return the blocks of commands for root, by the heading or the bold words before them."""
    text = (CHECKOUT / "docs/systemd.md").read_text()
    found: dict[str, list[str]] = {}
    heading = ""
    for index, part in enumerate(re.split(r"```console\n(.*?)```", text, flags=re.DOTALL)):
        if index % 2 and (commands := re.findall(r"^# (.+)$", part, re.MULTILINE)):
            found[heading] = commands
        for words in re.findall(r"^(?:## |\*\*)([^*\n]+)", part, re.MULTILINE):
            heading = words
    return found
