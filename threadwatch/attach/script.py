"""Makes the scripts that a process is asked to run: one that publishes it, and one that ends that.

The first has the publisher in it, whole, because the process may have no threadwatch, or none that it could
find. It leaves nothing in the process but the publisher's modules. Where the process has threadwatch already,
that is used. A script says how it went in one line of a file that is there for it.

What a program's signal handlers raise while the script runs is the program's, and CPython would drop it:
so the signal is raised again, and comes when the script is over.
"""

from __future__ import annotations

import pkgutil
from hashlib import sha256

MODULES = (
    "__init__.py",
    "publisher/__init__.py",
    "publisher/layout.py",
    "publisher/gil.py",
    "publisher/handover.py",
    "publisher/memfd.py",
    "publisher/hooks.py",
    "publisher/publisher.py",
)
"""What a process needs to publish, in the order in which it is imported."""

DONE, AGAIN, FAILED = "done", "again", "failed "
"""The beginnings of the line that a script leaves."""

_FRAME = """\
def _threadwatch():
    import _operator, _signal, _thread, _weakref, os, sys

    def report(text):
        try:
            fd = os.open({answer!r}, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                os.write(fd, text.encode("utf-8", "backslashreplace")[:400].replace(b"\\n", b" ") + b"\\n")
            finally:
                os.close(fd)
        except OSError as error:
            return raised_by(error)

    def raised_by(error):
        # the signal whose handler has raised it; None: it is none of the program's
        codes, at = set(), error.__traceback__
        while at is not None:
            codes.add(at.tb_frame.f_code)
            at = at.tb_next
        for number in _signal.valid_signals():
            handler = _signal.getsignal(number)
            if handler is _signal.default_int_handler and isinstance(error, KeyboardInterrupt):
                return number
            if getattr(getattr(handler, "__func__", handler), "__code__", None) in codes:
                return number

{body}
    number = None
    try:
        answer = work()
        repr(None)  # looks for signals: they come here, rather than later or never
    except BaseException as error:  # of a signal handler: it is raised again outside
        number = raised_by(error)
        answer = "failed " + (str(error) or type(error).__name__) if number is None else "again"
    number = report(answer) or number
    if number is None:
        return None

    class Reference(_weakref.ref):
        interrupt_main = _thread.interrupt_main

    # The signal comes again when these are freed, the last first, after the script: without any bytecode, or
    # the handler would be called in the middle of that.
    last = set()
    return Reference(last, _operator.methodcaller("interrupt_main", number)), last


_last = _threadwatch()
del _threadwatch
"""

_PUBLISH = """\
    def work():
        package = sys.modules.get("threadwatch")
        if package is not None and getattr(package, "_attached", {digest!r}) != {digest!r}:
            # an earlier attach by another threadwatch
            package.unpublish()
            for name in [name for name in sys.modules if name.partition(".")[0] == "threadwatch"]:
                del sys.modules[name]
            package = None
        if package is None:
            package = load()
        said = []
        publisher = sys.modules.get("threadwatch.publisher.publisher")
        complain = vars(publisher).get("complain") if publisher is not None else None
        if complain is not None:
            publisher.complain = said.append
        try:
            if package.publish():
                return "done"
        finally:
            if complain is not None:
                publisher.complain = complain
        return "failed " + (str(said[0]) if said else "it gives no reason")

    def load():
        # of the standard library what the publisher needs, before any module of ours can be seen
        for name in ("_struct", "binascii", "fcntl", "mmap"):
            __import__(name)
        new = type(sys)
        made = {{}}
        try:
            for name, source in {sources!r}:
                module = made[name] = sys.modules[name] = new(name)
                if name in ("threadwatch", "threadwatch.publisher"):
                    module.__path__ = []
                module.__package__ = name if hasattr(module, "__path__") else name.rpartition(".")[0]
                parent, _, own = name.rpartition(".")
                if parent:
                    setattr(made[parent], own, module)
                exec(compile(source, "<" + name + ">", "exec", dont_inherit=True), vars(module))
        except BaseException:  # of a signal handler, for example: all modules or none
            for name, module in made.items():
                if sys.modules.get(name) is module:
                    del sys.modules[name]
            raise
        made["threadwatch"]._attached = {digest!r}
        return made["threadwatch"]
"""

_UNPUBLISH = """\
    def work():
        package = sys.modules.get("threadwatch")
        if package is not None:
            package.unpublish()
        return "done"
"""


def publishing(answer: str) -> str:
    """Return the script that makes its process publish. ``answer``: the path of the file for its one line."""
    taken = sources()
    digest = sha256(repr(taken).encode()).hexdigest()[:16]
    return _FRAME.format(answer=answer, body=_PUBLISH.format(sources=taken, digest=digest))


def sources() -> tuple[tuple[str, str], ...]:
    """Return name and source of each module that a process needs to publish, in the order of import."""
    return tuple((_name(path), _source(path)) for path in MODULES)


def unpublishing(answer: str) -> str:
    """Return the script that ends publishing. ``answer`` as for :func:`publishing`."""
    return _FRAME.format(answer=answer, body=_UNPUBLISH)


def _name(path: str) -> str:
    module = "threadwatch/" + path.removesuffix(".py").removesuffix("__init__")
    return module.rstrip("/").replace("/", ".")


def _source(path: str) -> str:
    data = pkgutil.get_data("threadwatch", path)
    if data is None:
        raise FileNotFoundError(path)
    return data.decode()
