"""Lists the system calls that a thread can wait in, with their numbers and kinds.

The numbers are from the kernel's headers: ``asm/unistd_64.h`` of x86-64, ``asm-generic/unistd.h``
for aarch64. A test compares each one with them. A call that is missing here is state ``other``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class CallKind(Enum):
    """The way in which the reason of a wait follows from the call's arguments."""

    FUTEX = "futex"
    FCNTL = "fcntl"
    POLL_FDS = "poll fds"
    SELECT_FDS = "select fds"
    FD = "fd"
    FILE = "file"
    RESTART = "restart"


Call = tuple[str, int | None, int | None]
"""A system call's name, and its number on x86-64 and on aarch64; None: that machine lacks the call."""

CALLS: Mapping[str | CallKind, tuple[Call, ...]] = {
    # A futex: its address tells whether it is the GIL's.
    CallKind.FUTEX: (
        ("futex", 202, 98),
        ("futex_wait", 455, 455),
    ),
    # Locks of other kinds.
    "lock": (
        ("futex_waitv", 449, 449),
        ("flock", 73, 32),
        ("semop", 65, 193),
        ("semtimedop", 220, 192),
    ),
    # A lock on a file, if the command says so.
    CallKind.FCNTL: (("fcntl", 72, 25),),
    # A time, or a signal.
    "sleep": (
        ("nanosleep", 35, 101),
        ("clock_nanosleep", 230, 115),
        ("pause", 34, None),
        ("rt_sigsuspend", 130, 133),
        ("rt_sigtimedwait", 128, 137),
    ),
    # Any of a list of file descriptors.
    CallKind.POLL_FDS: (
        ("poll", 7, None),
        ("ppoll", 271, 73),
    ),
    # Any of up to three sets of file descriptors.
    CallKind.SELECT_FDS: (
        ("select", 23, None),
        ("pselect6", 270, 72),
    ),
    # Any of many file descriptors, or any request to the kernel (io_uring).
    "poll": (
        ("epoll_wait", 232, None),
        ("epoll_pwait", 281, 22),
        ("epoll_pwait2", 441, 441),
        ("io_uring_enter", 426, 426),
    ),
    # A socket: only sockets have these calls.
    "socket": (
        ("accept", 43, 202),
        ("accept4", 288, 242),
        ("connect", 42, 203),
        ("recvfrom", 45, 207),
        ("recvmsg", 47, 212),
        ("recvmmsg", 299, 243),
        ("sendto", 44, 206),
        ("sendmsg", 46, 211),
        ("sendmmsg", 307, 269),
    ),
    # A message queue.
    "pipe": (
        ("mq_timedreceive", 243, 183),
        ("mq_timedsend", 242, 182),
        ("msgrcv", 70, 188),
        ("msgsnd", 69, 189),
    ),
    # One file descriptor of any kind, the first argument.
    CallKind.FD: (
        ("read", 0, 63),
        ("readv", 19, 65),
        ("write", 1, 64),
        ("writev", 20, 66),
        ("sendfile", 40, 71),
        ("splice", 275, 76),
        ("tee", 276, 77),
        ("vmsplice", 278, 75),
    ),
    # A child that has to end, or to have begun (vfork).
    "child": (
        ("wait4", 61, 260),
        ("waitid", 247, 95),
        ("clone", 56, 220),
        ("clone3", 435, 435),
        ("fork", 57, None),
        ("vfork", 58, None),
    ),
    # A file, a directory or a whole file system.
    CallKind.FILE: (
        ("access", 21, None),
        ("chdir", 80, 49),
        ("chmod", 90, None),
        ("chown", 92, None),
        ("close", 3, 57),
        ("close_range", 436, 436),
        ("copy_file_range", 326, 285),
        ("creat", 85, None),
        ("faccessat", 269, 48),
        ("faccessat2", 439, 439),
        ("fadvise64", 221, 223),
        ("fallocate", 285, 47),
        ("fchdir", 81, 50),
        ("fchmod", 91, 52),
        ("fchmodat", 268, 53),
        ("fchmodat2", 452, 452),
        ("fchown", 93, 55),
        ("fchownat", 260, 54),
        ("fdatasync", 75, 83),
        ("fgetxattr", 193, 10),
        ("flistxattr", 196, 13),
        ("fremovexattr", 199, 16),
        ("fsetxattr", 190, 7),
        ("fstat", 5, 80),
        ("fstatfs", 138, 44),
        ("fsync", 74, 82),
        ("ftruncate", 77, 46),
        ("futimesat", 261, None),
        ("getdents", 78, None),
        ("getdents64", 217, 61),
        ("getxattr", 191, 8),
        ("io_getevents", 208, 4),
        ("io_pgetevents", 333, 292),
        ("io_submit", 209, 2),
        ("lchown", 94, None),
        ("lgetxattr", 192, 9),
        ("link", 86, None),
        ("linkat", 265, 37),
        ("listxattr", 194, 11),
        ("llistxattr", 195, 12),
        ("lremovexattr", 198, 15),
        ("lseek", 8, 62),
        ("lsetxattr", 189, 6),
        ("lstat", 6, None),
        ("mkdir", 83, None),
        ("mkdirat", 258, 34),
        ("mknod", 133, None),
        ("mknodat", 259, 33),
        ("msync", 26, 227),
        ("newfstatat", 262, 79),
        ("open", 2, None),
        ("openat", 257, 56),
        ("openat2", 437, 437),
        ("pread64", 17, 67),
        ("preadv", 295, 69),
        ("preadv2", 327, 286),
        ("pwrite64", 18, 68),
        ("pwritev", 296, 70),
        ("pwritev2", 328, 287),
        ("readahead", 187, 213),
        ("readlink", 89, None),
        ("readlinkat", 267, 78),
        ("removexattr", 197, 14),
        ("rename", 82, None),
        ("renameat", 264, 38),
        ("renameat2", 316, 276),
        ("rmdir", 84, None),
        ("setxattr", 188, 5),
        ("stat", 4, None),
        ("statfs", 137, 43),
        ("statx", 332, 291),
        ("symlink", 88, None),
        ("symlinkat", 266, 36),
        ("sync", 162, 81),
        ("sync_file_range", 277, 84),
        ("syncfs", 306, 267),
        ("truncate", 76, 45),
        ("umount2", 166, 39),
        ("unlink", 87, None),
        ("unlinkat", 263, 35),
        ("utime", 132, None),
        ("utimensat", 280, 88),
        ("utimes", 235, None),
    ),
    # The continuation of a wait that a signal or a stop has interrupted.
    CallKind.RESTART: (("restart_syscall", 219, 128),),
}
"""Every known system call, by the state of a thread that waits in it, or by the way to find that."""

_COLUMNS = {"x86_64": 1, "aarch64": 2}


def ways(machine: str) -> Mapping[int, str | CallKind]:
    """Return a machine's system calls (by ``uname -m``, 64-bit) with states or kinds; empty: unknown."""
    return {number: way for number, (_, way) in _known(machine).items()}


def names(machine: str) -> Mapping[int, str]:
    """Return the names of a machine's system calls, as :func:`ways`."""
    return {number: name for number, (name, _) in _known(machine).items()}


def epolls(machine: str) -> frozenset[int]:
    """Return the numbers of a machine's system calls that wait for an epoll, their first argument."""
    return frozenset(number for number, name in names(machine).items() if name.startswith("epoll_"))


def _known(machine: str) -> dict[int, tuple[str, str | CallKind]]:
    column = _COLUMNS.get(machine)
    if column is None:
        return {}
    return {
        number: (call[0], way)
        for way, calls in CALLS.items()
        for call in calls
        if isinstance(number := call[column], int)
    }
