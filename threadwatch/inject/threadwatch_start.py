"""Publishes the process and steps aside, for the start-up modules beside this file.

``threadwatch run`` puts this directory in front of PYTHONPATH, so that interpreters import from it
when they start, whether or not threadwatch is installed for them. Every Python since 2.7 reads this
file and those beside it. An interpreter that cannot publish goes on as if they were not there.

The code runs in other people's processes: it raises no error of its own, leaves ``sys.path`` as it
would be without us, and imports the module that a start-up module of ours hides.
"""

import os
import sys

_OFF = ("", "0", "false", "no", "off")  # as _autostart has them


def start(name):  # type: (str) -> None
    """Publish, then import the module called ``name`` that stood behind ours."""
    publish()
    _hand_over(name)


def publish():  # type: () -> None
    """Publish this process, if its Python can and the environment does not forbid it. Never raises."""
    try:
        here = os.path.dirname(os.path.abspath(__file__))
        sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
        if sys.version_info < (3, 9):  # noqa: UP036 - `run` starts any command, and any Python
            return  # type: ignore[unreachable]  # as above
        if os.environ.get("THREADWATCH", "1").strip().lower() in _OFF:
            return
        root = os.path.dirname(os.path.dirname(here))
        # The directory beside the package belongs to another environment. It must not stay on the
        # path, nor hide a module of the target's; so the modules that the publisher needs are
        # imported before.
        for name in ("binascii", "fcntl", "mmap", "struct"):
            __import__(name)
        sys.path.insert(0, root)
        try:
            from threadwatch.publisher import publisher  # noqa: PLC0415 - only here is it found
        finally:
            sys.path.remove(root)
        publisher.publish()
    except Exception:  # noqa: BLE001, S110 - our fault must never keep a program from starting
        pass


def _hand_over(name):  # type: (str) -> None
    ours = sys.modules.pop(name, None)
    try:
        __import__(name)  # the next one on the path, if there is one
    except ImportError as error:
        if getattr(error, "name", name) != name:  # 2.7 has no name, and then every error passes
            raise  # the application's error: site.py reports it, as it would without us
    finally:
        if ours is not None:
            sys.modules.setdefault(name, ours)
