"""Publishes a process that ``threadwatch run`` has started: interpreters import this module first."""

import threadwatch_start  # type: ignore[import-not-found]  # found on the path, beside this file

threadwatch_start.start(__name__)
