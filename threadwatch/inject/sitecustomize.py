"""Publishes a process that ``threadwatch run`` has started: what interpreters import first of all."""

import threadwatch_start  # type: ignore[import-not-found]  # found on the path, beside this file

threadwatch_start.start(__name__)
