"""``threadwatch files --inject DIR`` copies what has Python publish, for interpreters without threadwatch.

Containers and other environments then need nothing but ``PYTHONPATH``. The copy is made beside its place,
and put there when it is whole: a process that starts meanwhile finds the earlier one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from threadwatch.errors import Unusable

_PACKAGE: Final = Path(__file__).parent.parent
_PARTS: Final = ("__init__.py", "publisher", "inject")
"""What runs in watched processes, of this package."""


def inject(directory: str) -> int:
    """Copy the publisher to ``DIRECTORY/threadwatch``, and print the variable to set. Return the exit code.

    An earlier copy there is replaced; what else is in the directory stays.

    :raises Unusable: it cannot be written, or something else is there by that name.
    """
    top = Path(directory)
    place = top / _PACKAGE.name
    if os.pathsep in str(place.absolute()):
        raise Unusable(
            f"files: --inject {directory}: PYTHONPATH cannot name a path with {os.pathsep!r}"
        )
    if os.path.lexists(place) and not (place / "inject").is_dir():
        raise Unusable(
            f"files: --inject {directory}: {place} is not of ours: give another directory"
        )
    try:
        top.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".threadwatch.", dir=top) as beside:
            _put(place, Path(beside))
    except OSError as error:
        raise Unusable(
            f"files: --inject {directory}: {error.filename or directory}: {error.strerror or error}"
        ) from error
    print(f"PYTHONPATH={place.absolute() / 'inject'}")
    return 0


def _put(place: Path, beside: Path) -> None:
    """Make the copy in a directory beside its place, then have it there instead of an earlier one."""
    new = beside / "new"
    new.mkdir()
    for part in _PARTS:
        source = _PACKAGE / part
        if source.is_dir():
            shutil.copytree(source, new / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, new / part)
    for path in (new, *new.rglob("*")):  # whatever umask(2) is here: other users' processes read it
        path.chmod(0o755 if path.is_dir() else 0o644)
    if place.exists():
        place.rename(beside / "old")
    new.rename(place)
