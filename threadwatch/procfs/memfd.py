"""Opens a memfd of a target, and nothing else that is called like one, or handed over as one.

The name proves nothing: in some mount namespace any file can be called like a memfd. Opening a FIFO, a
device or a file on the target's own FUSE mount could block, or have effects. So the descriptor is first
opened as a mere place (O_PATH: no file system is asked), and its mount is compared with that of a memfd
of ours. All memfds live on one mount that only the kernel uses; so a file on that mount is a memfd, and
can be opened.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import stat

from threadwatch.errors import Malformed
from threadwatch.procfs.fdinfo import parse_fdinfo
from threadwatch.procfs.handles import OWN, TableFile, close, translated, whole
from threadwatch.procfs.marks import reading

_PATH = os.O_PATH | os.O_CLOEXEC
# O_NONBLOCK: otherwise a target with a lease on its memfd could make open() wait.
_TABLE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


def open_memfd(directory: int, fd: int) -> TableFile:
    """Return the memfd ``fd`` of the process with this directory. Never blocks, whatever ``fd`` is.

    :raises Gone: the process has ended, or has closed the descriptor.
    :raises Malformed: it is no memfd.
    """
    with translated("table"):
        place = -1
        try:
            with reading():
                place = os.open(f"fd/{fd}", _PATH, dir_fd=directory)
            return _proven(place)
        finally:
            close(place)


def open_received(fd: int) -> TableFile:
    """Return the table whose descriptor a process has sent us, opened anew for reading alone.

    Asks no file system but the kernel's own, whatever ``fd`` is; the caller has to close ``fd``, which can
    wait for ever if it is no memfd.

    :raises Malformed: it is no memfd whose size is sealed, as a publisher's is.
    """
    with translated("table"):
        try:
            seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EBADF):  # EBADF: opened by O_PATH
                raise
            seals = 0
        if seals & _SEALS != _SEALS:
            raise Malformed("table", "is not a memfd with the seals of a table")
        return _proven(fd)


def _proven(place: int) -> TableFile:
    """Return the file at a place, if it is a memfd, opened for reading."""
    if _mount(place) != _memfd_mount():
        raise Malformed("table", "is called like a memfd and is none")
    found = os.fstat(place)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink:
        raise Malformed("table", "is not a memfd")
    handle = os.open(f"/proc/self/fd/{place}", _TABLE)
    return TableFile(handle, owner_uid=found.st_uid, inode=found.st_ino)


@functools.cache
def _memfd_mount() -> int:
    """Return the id of the kernel's mount of all memfds."""
    with translated(OWN):
        fd = os.memfd_create("threadwatch-mount", os.MFD_CLOEXEC)
        try:
            return _mount(fd)
        finally:
            os.close(fd)


def _mount(fd: int) -> int:
    """Return the id of the mount of a file of our own."""
    with translated(OWN):
        info = os.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return parse_fdinfo(whole(info, OWN)).mnt_id
        finally:
            os.close(info)
