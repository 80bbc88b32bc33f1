"""``threadwatch files`` lists the files that come along, and prints them."""

from __future__ import annotations

import sys

from threadwatch.errors import Unusable
from threadwatch.shipped import shipped


def files(name: str | None) -> int:
    """Print the names of all files; of those in a directory; or the content of one. Return the exit code.

    :raises Unusable: there is no such file.
    """
    found = shipped()
    if name in found:
        sys.stdout.write(found[name].read_text(encoding="utf-8"))
        return 0
    names = [one for one in found if name is None or one.startswith(f"{name.rstrip('/')}/")]
    if not names:
        raise Unusable(f"files: there is no {name}: threadwatch files lists what there is")
    for one in names:
        print(one)
    return 0
