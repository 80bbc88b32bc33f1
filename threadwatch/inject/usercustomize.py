"""Publishes where another tool's ``sitecustomize`` precedes ours and does not hand over to it.

Interpreters import this one afterwards, except those of virtual environments.
"""

import threadwatch_start  # type: ignore[import-not-found]  # found on the path, beside this file

threadwatch_start.start(__name__)
