"""Opens a memfd of a target, and nothing else that is called like one.

The name proves nothing: in some mount namespace any file can be called like a memfd. Opening a FIFO, a
device or a file on the target's own FUSE mount could block, or have effects. So the descriptor is first
opened as a mere place (O_PATH: no file system is asked), and its mount is compared with that of a memfd
of ours. All memfds live on one mount that only the kernel uses; so a file on that mount is a memfd, and
can be opened.
"""

from __future__ import annotations

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
            if _mount(place) != _memfd_mount():
                raise Malformed("table", "is called like a memfd and is none")
            found = os.fstat(place)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink:
                raise Malformed("table", "is not a memfd")
            handle = os.open(f"/proc/self/fd/{place}", _TABLE)
        finally:
            close(place)
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
