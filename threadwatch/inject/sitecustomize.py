"""Publishes a process that ``threadwatch run`` has started, and then steps aside.

``threadwatch run`` puts this directory in front of PYTHONPATH, so any interpreter from 3.9 on imports
this file when it starts, whether or not threadwatch is installed for it. It runs in other people's
processes: it raises nothing of its own, leaves ``sys.path`` as it would be without it, and hands over
to the ``sitecustomize`` that it hides.
"""

import sys


def _publish() -> None:
    try:
        import os  # noqa: PLC0415 - an interpreter that has no os has no use for us either

        here = os.path.dirname(os.path.abspath(__file__))
        root = os.path.dirname(os.path.dirname(here))
        sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
        # What lies beside the package is another environment's. It must not stay on the path, nor
        # hide a module of the target's; so what the publisher needs of those is imported before.
        for name in ("binascii", "fcntl", "mmap", "struct"):
            __import__(name)
        sys.path.insert(0, root)
        try:
            from threadwatch.publisher import publish  # noqa: PLC0415 - only here is it found
        finally:
            sys.path.remove(root)
        publish()
    except Exception:  # noqa: BLE001, S110 - a fault of ours must never keep a program from starting
        pass


def _hand_over() -> None:
    ours = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401, PLC0415 - the next one on the path, if there is one
    except ImportError as error:
        if error.name != "sitecustomize":
            raise  # theirs: site.py reports it, as it would without us
    finally:
        if ours is not None:
            sys.modules.setdefault("sitecustomize", ours)


_publish()
_hand_over()
