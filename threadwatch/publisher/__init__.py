"""Runs inside a watched process: the standard library alone, CPython 3.9 and later.

Its modules are few, and some of them long: each costs every watched process 0.05 to 0.14 ms at its start.

A process may have loaded an earlier version of ``threadwatch/__init__.py`` before an upgrade; that
version asks this package for ``publish``, so it is available here as well.
"""

TYPE_CHECKING = False  # importing `typing` for its own would cost the target 3 ms
if TYPE_CHECKING:
    from typing import Any


def __getattr__(name: str) -> "Any":
    if name in ("publish", "unpublish"):
        from threadwatch.publisher import publisher  # noqa: PLC0415 - the package must cost nothing

        return getattr(publisher, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
