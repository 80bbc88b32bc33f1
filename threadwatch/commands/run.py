"""``threadwatch run`` starts a command whose Python processes publish their threads.

Works for any interpreter from 3.9 on and for everything that the command starts in turn, by two
environment variables that children inherit: THREADWATCH=1, which the start-up file of an installed
threadwatch obeys, and PYTHONPATH with start-up modules for interpreters that have none installed: see
docs/decisions/0025-start-up-modules.md. Where the command line shows that this will not work, it says so.
Standard library only; runs on Python 3.9 and later.
"""

import os
import sys
from collections.abc import Mapping, Sequence

from threadwatch.commands.obstacles import obstacle
from threadwatch.errors import Unusable

INJECT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "inject")


def environment(base: Mapping[str, str]) -> "dict[str, str]":
    """Return ``base`` with the variables that make Python publish."""
    result = dict(base)
    result["THREADWATCH"] = "1"
    paths = [path for path in result.get("PYTHONPATH", "").split(os.pathsep) if path != INJECT]
    result["PYTHONPATH"] = os.pathsep.join([INJECT, *paths]) if any(paths) else INJECT
    return result


def run(command: Sequence[str]) -> "None":
    """Become ``command``. Raise :class:`Unusable` if it cannot be started, and do not return otherwise."""
    there = environment(os.environ)
    if why := obstacle(command, there):
        print(f"threadwatch: run: {why}", file=sys.stderr, flush=True)
    try:
        os.execvpe(command[0], list(command), there)  # noqa: S606 - run exists for this
    except OSError as error:
        message = f"run: {command[0]}: {error.strerror}"
        if isinstance(error, FileNotFoundError):
            message += "; give a program on the PATH or its path"
        raise Unusable(message) from error
