"""Chooses the names of series of tasks, by the rules for the names of threads."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from threadwatch.labels.groups import UNNAMED, ThreadNames
from threadwatch.model.keys import OTHER, UNATTRIBUTED
from threadwatch.model.loops import CALLBACK, LOOP, NO_LOOP, UNKNOWN

_OURS: Final = frozenset((LOOP, NO_LOOP, UNKNOWN))
_CHOSEN: Final = frozenset((OTHER, UNATTRIBUTED, UNNAMED))
_CACHED_NAMES: Final = 4096

_NUMBERED = re.compile(r"(?<=[-#:/. ])[0-9]+")
"""A number in a name that was chosen for each task: ``worker-17``. A qualified name has none such."""


def task_names(rules: ThreadNames) -> Callable[[str], str]:
    """Return what makes the label of a task from its name, by these rules for threads.

    Numbers are folded besides, and a task that has called itself by a name of threadwatch's own gets quotes.
    """

    @lru_cache(_CACHED_NAMES)
    def label(name: str) -> str:
        if name in _OURS:
            return name
        if name.startswith(CALLBACK):
            return CALLBACK + rules.fold(name.removeprefix(CALLBACK))
        folded = _NUMBERED.sub("N", rules.fold(name))
        return f"'{folded}'" if folded in _CHOSEN else folded or UNNAMED

    return label
