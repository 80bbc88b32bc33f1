"""Where the publisher takes hold of :mod:`threading`, and how it lets go again.

Rules: a hook does what it replaces first, and then tells the publisher; what the publisher raises
stays here. :mod:`threading` is never imported by us, because gevent must be able to patch it first:
where it is not there yet, a finder on ``sys.meta_path`` waits until the application imports it.
Taking the hooks out restores what was there, unless somebody else has hooked on top of us: then
ours stays, and passes through.

Standard library only; runs on CPython 3.9 and later.
"""

import sys

from threadwatch import is_ours

TYPE_CHECKING = False  # importing `typing` for its own would cost the target 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from threading import Thread
    from types import ModuleType
    from typing import Any


class Hooks:
    """The wrappers round ``Thread._set_native_id`` and the setter of ``Thread.name``."""

    def __init__(
        self,
        *,
        started: "Callable[[Thread], None]",
        renamed: "Callable[[Thread], None]",
        ready: "Callable[[], None]",
    ) -> None:
        self._started = started
        self._renamed = renamed
        self._ready = ready
        self._undo: list[Callable[[], None]] = []
        self._installed = False

    def install(self) -> None:
        """Hook threading now if it is there, else when the application imports it."""
        if self._installed:
            return
        self.remove()  # what may be left of the last time
        threading = sys.modules.get("threading")
        try:
            if threading is None:
                watcher = _ImportWatcher(self._imported)
                self._undo.append(watcher.leave)
                sys.meta_path.insert(0, watcher)
            else:
                self._hook(threading.Thread)
            self._installed = True
        except BaseException:  # of a signal handler, say: all of them or none
            self.remove()
            raise

    def remove(self) -> None:
        """Take the hooks out. Where a signal handler raises meanwhile, the next time goes on with it."""
        self._installed = False
        for restore in self._undo[::-1]:
            restore()
            if restore in self._undo:
                self._undo.remove(restore)

    def _imported(self) -> None:
        try:
            if self._undo:  # else switched off meanwhile
                self._undo.clear()
                self._hook(sys.modules["threading"].Thread)
                self._ready()
        except Exception as error:  # the import is the application's, and it went well
            if not is_ours(error):
                raise

    def _hook(self, cls: "Any") -> None:
        set_native_id = cls._set_native_id
        started, renamed = self._started, self._renamed

        def _set_native_id(self: "Thread") -> None:
            set_native_id(self)
            try:
                started(self)
            except Exception as error:  # the thread must start, whatever becomes of us
                if not is_ours(error):
                    raise

        name = cls.name

        def set_name(self: "Thread", value: str) -> None:
            name.fset(self, value)
            try:
                renamed(self)
            except Exception as error:
                if not is_ours(error):
                    raise

        for function, original in ((_set_native_id, set_native_id), (set_name, name.fset)):
            function.__name__ = original.__name__
            function.__qualname__ = original.__qualname__
            function.__module__ = original.__module__
            function.__doc__ = original.__doc__
        wrapped_name = property(name.fget, set_name, name.fdel, name.__doc__)
        for attribute, ours, original in (
            ("_set_native_id", _set_native_id, set_native_id),
            ("name", wrapped_name, name),
        ):
            self._undo.append(_restorer(cls, attribute, ours, original))
            setattr(cls, attribute, ours)


def _restorer(cls: type, attribute: str, ours: object, original: object) -> "Callable[[], None]":
    def restore() -> None:
        if cls.__dict__.get(attribute) is ours:
            setattr(cls, attribute, original)

    return restore


class _ImportWatcher:
    """A finder that finds nothing itself, and tells when :mod:`threading` has been imported."""

    def __init__(self, imported: "Callable[[], None]") -> None:
        self._imported = imported

    def leave(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if fullname != "threading":
            return None
        self.leave()
        for finder in sys.meta_path:
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader, self._imported)  # type: ignore[assignment]  # by shape
                return spec
        return None


class _Loader:
    """Executes the module as its own loader does, and leaves no trace of itself in it."""

    def __init__(self, loader: "Any", imported: "Callable[[], None]") -> None:
        self._loader = loader
        self._imported = imported

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: "ModuleType") -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._imported()


def interpreter_id() -> int:
    """The id of the interpreter that this is: 0 the main one, -1 not known (before 3.13)."""
    try:
        import _thread  # noqa: PLC0415 - with what follows

        if _thread._is_main_interpreter():  # type: ignore[attr-defined]  # since 3.13
            return 0
        import _interpreters  # type: ignore[import-not-found]  # noqa: PLC0415 - seldom, and since 3.13

        current = _interpreters.get_current()
        return int(current[0] if isinstance(current, tuple) else current)
    except Exception as error:  # private to CPython: it may change
        if not is_ours(error):
            raise
        return -1
