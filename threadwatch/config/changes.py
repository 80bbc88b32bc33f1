"""Tells by stat whether a file has been written or replaced, links on its path included."""

from __future__ import annotations

import os


def signature(path: str) -> object:
    """Return a value that differs after the file at ``path`` has been written or replaced.

    Links are followed: the swap of a link on the path, as Kubernetes swaps that of a ConfigMap, is a change.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        return str(error)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Changes:
    """Whether a file has changed since it was read, and stands still again."""

    def __init__(self, path: str) -> None:
        """The file at ``path`` is about to be read."""
        self._path = path
        self.reading()

    def reading(self) -> None:
        """Note that the file is about to be read: a write from now on is a change."""
        self._read = self._seen = signature(self._path)

    def settled(self) -> bool:
        """Look, and return whether the file differs from what was read, but not from the last look.

        So a file that is just being written is left alone until the look after the last write.
        """
        now = signature(self._path)
        still = now == self._seen
        self._seen = now
        return still and now != self._read
