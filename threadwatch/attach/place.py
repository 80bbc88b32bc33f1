"""Puts a script where another process can run it: into a directory of its own that the process can see.

The directory is made where temporary files are in the process's own root directory, and is gone afterwards.
The root can be a container's, so no symbolic link in it is followed: it would lead elsewhere from here. Nor
is a place taken in which another user could put another directory instead of ours.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from threadwatch.errors import Unusable

PLACES = ("tmp", "var/tmp", "dev/shm", "run")
"""Where a directory can be made, by a path from the root."""

_KEEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC  # the kernel's own link is to be followed
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SCRIPT, _ANSWER = "script.py", "answer"
_MOST_ANSWER = 4096
_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Place:
    """A script that lies ready."""

    path: str
    """Its path, as the process sees it."""
    answer: int
    """The file for the answer, open."""

    def is_here(self) -> bool:
        """Return whether its path leads to the same file for us."""
        try:
            return os.path.samestat(
                os.stat(self.path.removesuffix(_SCRIPT) + _ANSWER), os.fstat(self.answer)
            )
        except OSError:
            return False

    def answers(self) -> list[str]:
        """Return the lines that the script has left so far. The process chooses what is in them."""
        *lines, _ = os.pread(self.answer, _MOST_ANSWER, 0).split(b"\n")
        return [line.decode("utf-8", "replace") for line in lines]


@contextmanager
def placed(directory: int, uid: int, script: Callable[[str], str]) -> Iterator[Place]:
    """Put a script where a process can run it; remove all of it afterwards.

    ``directory`` is the process's in ``/proc``, ``uid`` its file system user. ``script`` gives the text, by
    the path of the file that it is to answer in.

    :raises Unusable: there is no place for it.
    """
    parent, name, place = _find(directory, uid, script)
    try:
        yield place
    finally:
        _remove(parent, name)
        os.close(parent)
        os.close(place.answer)


def _find(directory: int, uid: int, script: Callable[[str], str]) -> tuple[int, str, Place]:
    """Put the script into the first place that takes it; return the place, open, its name, and the script."""
    why = []
    for place in PLACES:
        name = f"threadwatch-{secrets.token_hex(8)}"
        path = f"/{place}/{name}"
        try:
            parent = _open(directory, place)
            try:
                answer = _fill(parent, name, uid, script(f"{path}/{_ANSWER}"))
            except BaseException:  # whatever ends this, Ctrl-C too: nothing of ours is left there
                _remove(parent, name)
                os.close(parent)
                raise
        except OSError as error:
            why.append(f"/{place}: {error.strerror}")
        else:
            return parent, name, Place(f"{path}/{_SCRIPT}", answer)
    raise Unusable("there is no place for a script in its root directory: " + "; ".join(why))


def _open(directory: int, place: str) -> int:
    """Open one of the places, step by step. Raises OSError."""
    fd = os.open("root", _ROOT, dir_fd=directory)
    for part in place.split("/"):
        try:
            below = os.open(part, _KEEP, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    mode = os.fstat(fd).st_mode
    if mode & _MAY_WRITE and not mode & stat.S_ISVTX:
        os.close(fd)
        raise OSError(errno.EPERM, "any user can rename what is in it")
    return fd


def _fill(parent: int, name: str, uid: int, script: str) -> int:
    """Make the directory with its two files; return the one for the answer, open. Raises OSError."""
    os.mkdir(name, 0o700, dir_fd=parent)
    fd = os.open(name, _LIST, dir_fd=parent)
    try:
        with open(os.open(_SCRIPT, _NEW, 0o600, dir_fd=fd), "w", encoding="utf-8") as file:
            file.write(script)
            os.fchmod(file.fileno(), 0o644)
        answer = os.open(_ANSWER, _NEW, 0o600, dir_fd=fd)
        if os.geteuid() != uid:
            os.chown(_ANSWER, uid, -1, dir_fd=fd, follow_symlinks=False)
        os.fchmod(fd, 0o711)
        return answer
    finally:
        os.close(fd)


def _remove(parent: int, name: str) -> None:
    """Remove the directory, as far as it has been made."""
    with suppress(OSError):
        fd = os.open(name, _LIST, dir_fd=parent)
        try:
            for file in (_SCRIPT, _ANSWER):
                with suppress(FileNotFoundError):
                    os.unlink(file, dir_fd=fd)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=parent)
