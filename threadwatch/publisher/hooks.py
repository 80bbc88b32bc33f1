"""Hooks :mod:`threading` for the publisher, and removes the hooks again.

Rules: a hook first does what the original does, and then tells the publisher; an error of the
publisher stays inside. We never import :mod:`threading`, because gevent must be able to patch it
first. Removing the hooks restores what was there, unless other code has hooked on top of ours: then
our hook stays, and only passes calls on.

A process can have several copies of :mod:`threading`. eventlet imports one for real threads beside
the one that it patches. Tools that start with the interpreter remove what they have imported from
``sys.modules``, so that the application imports another copy. Each copy has classes of its own, and
is hooked:

* Existing copies are found by their ``Thread`` among the subclasses of ``object``.
* Later copies are noticed by a finder on ``sys.meta_path``, which stays there. It wraps the loader
of a module called ``threading``, and hooks the module when the loader has executed it, however
often it was only looked for before. Every other import asks the finder once, which costs one
comparison of strings.

A copy that is executed without an import (by ``exec``, or under another name) is found only by the
next ``publish()`` after ``unpublish()``.

Standard library only; runs on CPython 3.9 and later.
"""

import sys

from threadwatch import is_ours

TYPE_CHECKING = False  # importing `typing` for its own would cost the target 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from threading import Thread
    from types import ModuleType
    from typing import Any


class Hooks:
    """The wrappers round ``Thread._set_native_id`` and the setter of ``Thread.name``.

    ``ready`` is called for each copy of threading that the application has imported meanwhile.
    """

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
        self.copies: list[dict[str, Any]] = []
        """The variables of each copy of threading, the oldest first. (A copy never disappears, even
        if it is no longer in ``sys.modules``: it has passed a function to ``os.register_at_fork``.)"""

    def find_copies(self) -> None:
        """Find the copies of threading that exist now."""
        self.copies = list(_copies())

    def install(self) -> None:
        """Hook threading wherever it is now, and each copy that is imported from now on."""
        if self._installed:
            return
        self.remove()  # remnants of an interrupted removal
        try:
            self.find_copies()
            for copy in self.copies:
                self._hook(copy)
            watcher = _ImportWatcher(self._imported)
            self._undo.append(watcher.leave)
            sys.meta_path.insert(0, watcher)
            self._installed = True
        except BaseException:  # for example of a signal handler: all hooks or none
            self.remove()
            raise

    def remove(self) -> None:
        """Remove the hooks. If a signal handler raises meanwhile, the next call goes on with it."""
        self._installed = False
        for restore in self._undo[::-1]:
            restore()
            if restore in self._undo:
                self._undo.remove(restore)

    def _imported(self, module: "ModuleType") -> None:
        try:
            copy = vars(module)
            if self._installed and _is_threading(copy):  # else unpublished meanwhile
                self.copies.append(copy)
                self._hook(copy)
                self._ready()
        except Exception as error:  # the application's import has succeeded
            if not is_ours(error):
                raise

    def _hook(self, copy: "dict[str, Any]") -> None:
        # gevent puts a subclass in its place.
        cls = next(x for x in copy["Thread"].__mro__ if "_set_native_id" in vars(x))
        set_native_id = cls._set_native_id
        started, renamed = self._started, self._renamed

        def _set_native_id(self: "Thread") -> None:
            set_native_id(self)
            try:
                started(self)
            except Exception as error:  # the thread must start in spite of our errors
                if not is_ours(error):
                    raise

        name = cls.name

        def set_name(self: "Thread", value: str) -> None:
            name.fset(self, value)
            try:
                renamed(self)
            except Exception as error:  # a fault of ours must not reach the application
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


def _copies() -> "Iterator[dict[str, Any]]":
    """Yield the variables of each copy of threading that has been executed, the oldest first."""
    for cls in type.__subclasses__(object):
        if cls.__name__ == "Thread" and cls.__module__ == "threading":
            for attribute in list(vars(cls).values()):
                # A tool may replace some of its functions, but not all.
                variables = getattr(attribute, "__globals__", {})
                if variables.get("__name__") == "threading" and _is_threading(variables):
                    yield variables
                    break


def _is_threading(variables: "dict[str, Any]") -> bool:
    """Return whether they are those of the standard library's module, with threads that have a TID.

    In the copy from which eventlet takes its green parts, threads have no TID.
    """
    thread = variables.get("Thread")
    return "_active" in variables and hasattr(thread, "_set_native_id") and hasattr(thread, "name")


class _ImportWatcher:
    """A finder that finds nothing itself, and reports each executed module called ``threading``."""

    def __init__(self, imported: "Callable[[ModuleType], None]") -> None:
        self._imported = imported

    def leave(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if fullname != "threading":
            return None
        finders = list(sys.meta_path)
        # The finders before us have been asked.
        for finder in finders[finders.index(self) + 1 if self in finders else 0 :]:
            find_spec: Any = getattr(finder, "find_spec", None) or _find_spec_by_module(finder)
            spec: ModuleSpec | None = find_spec(fullname, path, target)
            if spec is not None:
                loader = spec.loader
                if hasattr(loader, "exec_module") and not isinstance(loader, _Loader):
                    spec.loader = _Loader(loader, self._imported)  # type: ignore[assignment]  # by shape
                return spec
        return None


def _find_spec_by_module(finder: object) -> "Callable[..., ModuleSpec | None]":
    """Return importlib's handling of a finder without ``find_spec``: none, from CPython 3.12 on."""
    legacy = getattr(sys.modules["_frozen_importlib"], "_find_spec_legacy", None)

    def find_spec(
        fullname: str, path: "Sequence[str] | None", _target: "ModuleType | None"
    ) -> "ModuleSpec | None":
        spec: ModuleSpec | None = legacy(finder, fullname, path) if legacy else None
        return spec

    return find_spec


class _Loader:
    """Executes the module as its own loader does, and leaves no trace of itself in it.

    Code that only looks for the module, and asks its loader for something, gets the answer of the
    module's own loader.
    """

    def __init__(self, loader: "Any", imported: "Callable[[ModuleType], None]") -> None:
        self._loader = loader
        self._imported = imported

    def __getattr__(self, name: str) -> "Any":
        if name == "_loader":  # of a copy of this object that is being made
            raise AttributeError(name)
        return getattr(self._loader, name)

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: "ModuleType") -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._imported(module)


def interpreter_id() -> int:
    """Return the id of this interpreter: 0 is the main one, -1 means unknown (before 3.13)."""
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
