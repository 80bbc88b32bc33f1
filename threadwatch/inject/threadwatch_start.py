"""What the start-up modules beside this file do: publish the process, and step aside.

``threadwatch run`` puts this directory in front of PYTHONPATH, so that interpreters import from it when
they start, whether or not threadwatch is installed for them. All of them do: this file and those beside it
are read by every Python since 2.7, and those that cannot publish go on as if nothing had been here.

It runs in other people's processes: it raises nothing of its own, leaves ``sys.path`` as it would be
without it, and hands over to the module that a start-up module of ours hides.
"""

import os
import sys

_OFF = ("", "0", "false", "no", "off")  # as _autostart has them


def start(name):  # type: (str) -> None
    """Publish, then import the module called ``name`` that stood behind ours."""
    publish()
    _hand_over(name)


def publish():  # type: () -> None
    """Publish this process, where it is a Python that can, and nobody has switched it off. Never raises."""
    try:
        here = os.path.dirname(os.path.abspath(__file__))
        sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
        if sys.version_info < (3, 9):  # noqa: UP036 - `run` starts whatever it is told to, and its children
            return  # type: ignore[unreachable]  # as above
        if os.environ.get("THREADWATCH", "1").strip().lower() in _OFF:
            return
        root = os.path.dirname(os.path.dirname(here))
        # What lies beside the package is another environment's. It must not stay on the path, nor
        # hide a module of the target's; so what the publisher needs of those is imported before.
        for name in ("binascii", "fcntl", "mmap", "struct"):
            __import__(name)
        sys.path.insert(0, root)
        try:
            from threadwatch.publisher import publisher  # noqa: PLC0415 - only here is it found
        finally:
            sys.path.remove(root)
        publisher.publish()
    except Exception:  # noqa: BLE001, S110 - a fault of ours must never keep a program from starting
        pass


def _hand_over(name):  # type: (str) -> None
    ours = sys.modules.pop(name, None)
    try:
        __import__(name)  # the next one on the path, if there is one
    except ImportError as error:
        if getattr(error, "name", name) != name:  # 2.7 has no name, and passes over all of them
            raise  # theirs: site.py reports it, as it would without us
    finally:
        if ours is not None:
            sys.modules.setdefault(name, ours)
