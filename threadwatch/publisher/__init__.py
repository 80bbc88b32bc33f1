"""What runs inside a watched process: the standard library alone, CPython 3.9 and later.

A process that has loaded an earlier version of ``threadwatch/__init__.py`` asks this package for ``publish``,
when it has been upgraded under the running process: so it is here as well.
"""

TYPE_CHECKING = False  # importing `typing` for its own would cost the target 3 ms
if TYPE_CHECKING:
    from typing import Any


def __getattr__(name: str) -> "Any":
    if name in ("publish", "unpublish"):
        from threadwatch.publisher import publisher  # noqa: PLC0415 - the package must cost nothing

        return getattr(publisher, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
