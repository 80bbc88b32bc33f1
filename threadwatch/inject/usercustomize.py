"""Publishes where another tool's ``sitecustomize`` stands before ours and does not hand over to it.

Interpreters import this one after that, unless they are those of a virtual environment.
"""

import threadwatch_start  # type: ignore[import-not-found]  # found on the path, beside this file

threadwatch_start.start(__name__)
