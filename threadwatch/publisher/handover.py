"""Hands a table over to a daemon: sends its descriptor to the daemon's Unix socket, once.

A daemon without capabilities cannot look into the processes of other users. So a publisher that finds
a daemon's socket (``THREADWATCH_SOCKET``, or :data:`threadwatch.publisher.layout.SOCKET`) sends each
table there as it makes it. Rules, besides those of :mod:`threadwatch.publisher.publisher`:

* Where there is no socket, this costs one system call for each table, and nothing is imported.
* Nothing waits. The socket does not block; if the daemon is away, or does not accept, the table is given
up, without a second try. A daemon that may look into this process finds it in ``/proc`` all the same.
* No descriptor is left, and no signal is sent (SIGPIPE) if the daemon closes the connection first.
* The daemon keeps the table open, so it cannot see exec or :func:`os._exit` in it. So the table is
locked (flock(2)) before it is sent: the lock ends when the last mapping and the last descriptor of it
are gone in this process.
* ``_socket`` is imported at once where it is built into the interpreter (0.15 ms), or where the
application has it already. Elsewhere (0.35 ms) that waits until the application imports threading.

Standard library only; runs on CPython 3.9 and later.
"""

import os
import sys
from fcntl import LOCK_EX, LOCK_NB, flock
from stat import S_ISSOCK

from threadwatch import is_ours
from threadwatch.publisher import layout

TYPE_CHECKING = False  # importing `typing` for its own would cost the target 3 ms
if TYPE_CHECKING:
    from typing import Any


def hand_over(descriptor: int, *, may_import: bool) -> bool:
    """Send the table with this descriptor, if there is a daemon's socket. Raises nothing of its own.

    ``may_import``: whether ``_socket`` may be imported, whatever that costs. Return False if the
    import is needed and not allowed: then call again when it is allowed, or the module is there.
    """
    try:
        path = os.environ.get("THREADWATCH_SOCKET", layout.SOCKET)
        if path[:1] != "/" or not S_ISSOCK(os.stat(path).st_mode):
            return True
        module = sys.modules.get("_socket")
        if module is None:
            if not (may_import or "_socket" in sys.builtin_module_names):
                return False
            import _socket as module  # noqa: PLC0415 - not without a daemon
        _send(module, path, descriptor)
    except Exception as error:  # no socket is there, or the daemon does not take it
        if not is_ours(error):
            raise
    return True


def _send(module: "Any", path: str, descriptor: int) -> None:
    flock(descriptor, LOCK_EX | LOCK_NB)
    kind = module.SOCK_SEQPACKET | module.SOCK_NONBLOCK | module.SOCK_CLOEXEC
    connection = module.socket(module.AF_UNIX, kind)
    try:
        connection.connect(path)
        rights = descriptor.to_bytes(4, sys.byteorder)
        connection.sendmsg(
            [layout.MAGIC],
            [(module.SOL_SOCKET, module.SCM_RIGHTS, rights)],
            module.MSG_NOSIGNAL,
        )
    finally:
        connection.close()
