"""Publishes the names of this process's threads in a memfd that a daemon can read.

Runs inside other people's processes, so these are its rules:

* It raises no errors of its own into the application, and swallows none of the application's, whose
signal handlers may run, and raise, in the middle of our code.
* It starts no thread, takes no lock and makes no thread wait. An event (a thread starts, ends, is
renamed) costs a few microseconds; without events there is no cost.
* The table is written through a shared mapping. A store needs no file descriptor, so an application
that closes all descriptors can never make us write into a file of its own. A store never releases
the GIL either, so a thread that starts does not queue for the GIL again.
* A start is seen by a wrapper round ``Thread._set_native_id``, which runs in the new thread before
``start()`` returns; an end by an object in a thread-local variable, whose ``__del__`` runs in the
dying thread; a new name by a wrapper round the ``Thread.name`` setter. None of them exists until
the application itself imports :mod:`threading`, because gevent has to come first.
* Nothing is written once the interpreter is being finalized. What is left of a thread then is cleared
by another thread, and the thread itself may continue: it has not ended.
* A forked child makes a table of its own; if Python is not told of the fork (by uWSGI, by a C
library), at the first event in the child. Guards of a parent's threads end in the child (their
thread-locals are cleared there); the PID in each table tells them from the child's own.
* If the application has closed the table's descriptor, the next event that notices makes another
table, and everything continues there. A process without events cannot notice.
* Only threads of the threading module are published, and only real ones: a greenlet that calls
itself a thread has another ident than the thread that runs it.

The layout is in :mod:`threadwatch.publisher.layout`. Works on CPython 3.9 and later; imports
nothing but the standard library's built-in and extension modules.
"""

import _thread
import os
import sys
from time import thread_time_ns

from threadwatch import complain, is_ours
from threadwatch.publisher import gil, handover, hooks, layout
from threadwatch.publisher import memfd as writer

TYPE_CHECKING = False  # importing `typing` for its own would cost the target 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _real(name: str) -> "Any":
    """Return an attribute of ``_thread`` as it was before gevent or eventlet patched it."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original("_thread", name)
    # eventlet keeps another copy of the module there, whether or not it has patched this one yet.
    return getattr(sys.modules.get("__original_module__thread", _thread), name)


_get_ident: "Callable[[], int]" = _real("get_ident")
_get_native_id: "Callable[[], int]" = _real("get_native_id")
_local: "Callable[[], Any]" = _real("_local")


_STAND_INS = ("_DummyThread", "_MainThread")
"""Classes of the objects that threading makes for threads that it has not started."""


class _Guard:
    """An object in a thread's thread-local variable: it dies with the thread, and in the thread.

    An interpreter that is being finalized clears the variables of all other threads, in the thread that
    finalizes it. That ends none of them: some continue, in C or waiting.
    """

    __slots__ = ("ended", "record")

    def __init__(self, record: writer.Record, ended: "Callable[[writer.Record], None]") -> None:
        self.record = record
        self.ended = ended

    def __del__(self, finalizing: "Callable[[], bool]" = sys.is_finalizing) -> None:
        if finalizing():
            return
        try:
            self.ended(self.record)
        except Exception:  # noqa: BLE001, S110 - nothing of ours may reach the application
            pass


class Publisher:
    """Handles each event, and holds the table to which events are written while publishing."""

    table: "writer.Table | None" = None

    def __init__(self) -> None:
        self._guards: Any = None
        self._gil = gil.NOT_FOUND
        self._ended = self.ended  # bound once: each birth needs it
        self._hooks = hooks.Hooks(
            started=self.started, renamed=self.renamed, ready=self.threading_ready
        )
        self._registered = False
        self._unsent = False
        """Whether the table is yet to be handed over to a daemon."""

    def start(self) -> bool:
        """Begin to publish; see :func:`threadwatch.publish`."""
        try:
            if sys.implementation.name != "cpython":
                raise OSError(f"{sys.implementation.name} is not supported, CPython alone is")
            # Each step is done, or done again, if a signal handler raised in the middle of the last
            # call.
            if self.table is None:
                self._hooks.find_copies()
                if self._gil == gil.NOT_FOUND:
                    # The GIL stays where it is, in forked children too.
                    self._gil = gil.find(_get_ident(), _get_native_id(), self._tid_of)
                self._begin()
            elif self.table.pid != os.getpid():
                self.forked()
            elif self.table.descriptor_lost(0):
                self._move()
            if not self._registered:
                os.register_at_fork(after_in_child=self.forked)
                if hooks.interpreter_id() != 0:
                    # A process can outlive many subinterpreters, which free nothing by themselves.
                    # Before 3.13, where the id is not known, a mapping closes its descriptor when
                    # it is freed, and first has to be asked whether that is still ours.
                    import atexit  # noqa: PLC0415 - seldom needed

                    atexit.register(self.stop)
                self._registered = True
            self._hooks.install()
        except Exception as error:  # a fault of ours must not reach the application
            if not is_ours(error):
                raise
            complain(error)
        return self.table is not None

    def stop(self) -> None:
        """Stop publishing; see :func:`threadwatch.unpublish`."""
        try:
            self._leave()
            self._hooks.remove()
        except Exception as error:  # a fault of ours must not reach the application
            if not is_ours(error):
                raise
            complain(error)

    def started(self, thread: "Any") -> None:
        """Publish a thread that starts: called in that very thread, with its ident and TID known."""
        table = self.table
        if (
            table is None or table.pid != os.getpid()
        ):  # a call less for those that start every moment
            table = self._own_table()
            if table is None:
                return
        ident = _get_ident()
        if thread._ident != ident:  # a greenlet has an ident of its own
            if type(thread).__name__ == "_MainThread":
                self.renamed(thread)  # in a forked child gevent makes a new one
            return
        tid = thread._native_id  # the wrapped function has just set it
        record = table.records.get(ident)
        if record is not None:
            stands_in = type(thread).__name__ in _STAND_INS
            if record.tid == tid and (stands_in or record.owner == id(thread)):
                self._met_again(table, record, thread)
                return
            table.end(record, layout.CPU_UNKNOWN)  # it ended without notice (pthread_exit)
        # `name` may be overridden
        if type(thread).__name__ == "_DummyThread":
            record = table.add(tid, ident, thread._name, layout.VISITOR)
        else:
            record = table.add(tid, ident, thread._name, 0, thread_time_ns())
        if record is not None:
            self._guard(record, thread)
            if table.descriptor_lost(record.serial):
                self._move()
            elif table is not self.table and self.table is not None:
                self.table.take(record)  # another thread has moved all others
            if self._unsent:
                self._hand_over()

    def _met_again(self, table: writer.Table, record: writer.Record, thread: "Any") -> None:
        """Keep the name of a thread that was reported twice, is ending, or is in two copies of threading.

        Its published name is already the right one.
        """
        if not record.guarded and record.tid != table.pid:
            self._guard(record, thread)
        mains = _main_threads(self._hooks.copies)
        if type(thread).__name__ == "_MainThread" and not any(thread is main for main in mains):
            table.rename(record, thread._name)  # a new one, of a forked child

    def renamed(self, thread: "Any") -> None:
        """Publish a possible new name of ``thread``; called in any thread."""
        table = self._own_table()
        if table is None:
            return
        record = table.records.get(thread._ident or 0)
        if record is not None:
            table.rename(record, thread._name)
        elif thread._ident == _get_ident():
            # Not published yet: this thread has forked without Python being told, and another
            # thread had the first event.
            table.add(_get_native_id(), thread._ident, thread._name, layout.ADOPTED)
        elif type(thread).__name__ == "_MainThread":  # its ident can be a greenlet's
            for record in list(table.records.values()):
                if record.tid == table.pid:
                    table.rename(record, thread._name)
        if table.descriptor_lost(1):
            self._move()

    def ended(self, record: writer.Record) -> None:
        """Publish the end of ``record``'s thread: called in it, or where its variables are cleared."""
        table = record.table
        if table.closed:
            return
        if record.tid == _get_native_id():
            table.end(record, thread_time_ns())
        elif table.pid == os.getpid():
            # In a forked child the parent's threads end too, all in the one remaining thread.
            table.end(record, layout.CPU_UNKNOWN)

    def forked(self) -> None:
        """Leave the parent's table in a forked child, and make one for the only remaining thread.

        Called again after the threading module's own fork handler, for the name.
        """
        try:
            table = self.table
            if table is None:
                return
            if table.pid == os.getpid():
                self._adopt(table, forked=True)
            else:
                mine = table.records.get(_get_ident())
                self._leave()
                self._begin(mine, forked=True)
        except Exception as error:  # a fault of ours must not reach the application
            if not is_ours(error):
                raise
            complain(error)

    def threading_ready(self) -> None:
        """Publish the threads of a copy of :mod:`threading` that the application has imported."""
        os.register_at_fork(after_in_child=self.forked)  # so that it runs after threading's
        table = self._own_table()
        if table is not None:
            self._adopt(table, forked=False)
            if self._unsent:
                self._hand_over()

    def _tid_of(self, ident: int) -> int:
        """Return the TID of the thread that threading knows by this ident, or 0."""
        for copy in self._hooks.copies:
            tid: int | None = getattr(copy["_active"].get(ident), "_native_id", None)
            if tid:
                return tid
        return 0

    def _own_table(self) -> "writer.Table | None":
        """Return the table of this very process, if it publishes.

        The first event after a fork of which Python was not told (uWSGI's, a C library's) notices
        the fork here.
        """
        table = self.table
        if table is not None and table.pid != os.getpid():
            self.forked()
            table = self.table
        return table

    def _adopt(self, table: writer.Table, *, forked: bool) -> None:
        """Publish the existing threads; after a fork, only this one."""
        me, my_tid = _get_ident(), _get_native_id()
        main = table.pid if hooks.interpreter_id() <= 0 else 0
        taken = {record.tid: record for record in table.records.values()}
        claimed = set()
        for ident, thread in _in_order_of_belief(self._hooks.copies):
            tid = my_tid if ident == me else thread._native_id  # stale after a fork
            if not tid or (forked and ident != me) or tid in claimed:
                continue
            claimed.add(tid)
            if tid in taken:
                if forked and not _is_patched() and taken[tid].ident == ident:
                    table.rename(taken[tid], thread._name)
                continue
            # gevent and eventlet know the main thread by the ident of a greenlet.
            record = table.add(tid, me if tid == my_tid else ident, thread._name, layout.ADOPTED)
            if record is not None and ident == me and tid != table.pid:
                self._guard(record, thread)
        if my_tid == main and my_tid not in claimed and my_tid not in taken:
            name = next((x._name for x in _main_threads(self._hooks.copies)), "MainThread")
            table.add(my_tid, me, name, layout.ADOPTED)

    def _guard(self, record: writer.Record, thread: object) -> None:
        record.guarded = True
        record.owner = id(thread)
        self._guards.guard = _Guard(record, self._ended)

    def _begin(self, mine: "writer.Record | None" = None, *, forked: bool = False) -> None:
        """Make a table, and fill it with the present threads.

        ``mine``: this thread's record in the parent's table, in a forked child.
        """
        self._guards = _local()
        table = self._new_table()
        try:
            if mine is not None:
                name = mine.name.decode()
                table.add(
                    _get_native_id(), mine.ident, name, layout.ADOPTED | mine.flags & layout.CUT
                )
            self._adopt(table, forked=forked)
        except BaseException:  # whatever ends this: no half-made table stays
            table.close()
            raise
        self.table = table
        self._unsent = True
        self._hand_over(forked=forked)

    def _move(self) -> None:
        """Make another table, because the application has closed the descriptor of this one."""
        table = self.table
        if table is None:
            return
        another = self._new_table()
        self.table = another
        for record in list(table.records.values()):
            another.take(record)
        table.close()
        self._unsent = True
        self._hand_over()

    def _hand_over(self, *, forked: bool = False) -> None:
        """Send the table to a daemon that listens; later, if neither threading nor ``_socket`` is there."""
        table = self.table
        # The application can have closed it, and have a file of its own by that number.
        if table is not None and not table.descriptor_lost(0):
            self._unsent = False
            # In a forked child, a thread that is no more may have held the lock of an import.
            may_import = bool(self._hooks.copies) and not forked
            self._unsent = not handover.hand_over(table.descriptor, may_import=may_import)

    def _new_table(self) -> writer.Table:
        return writer.Table(
            flags=layout.FREE_THREADED if "t" in sys.abiflags else 0,
            interpreter=hooks.interpreter_id(),
            implementation=sys.implementation.name,
            hexversion=sys.hexversion,
            gil=self._gil,
        )

    def _leave(self) -> None:
        """Close the table, if there is one."""
        table = vars(self).pop("table", None)  # in one step: one thread alone closes it
        if table is not None:
            try:
                table.close()
            except BaseException:  # of a signal handler
                table.close()
                raise
            finally:
                # The guards in other threads go with the variable. The table has been closed before: it
                # must not say that these threads have ended.
                self._guards = None


def _in_order_of_belief(copies: "list[dict[str, Any]]") -> "list[tuple[int, Any]]":
    """Return the threads that the copies of threading know, with their idents, the most reliable first.

    The first to claim a TID has it: another copy knows a thread as a dummy, or, up to 3.12, as the main
    one if it was imported there; and before 3.13 dummies outlive their threads, so that another thread
    may have their TID by now. Greenlets, which borrow the TID of the thread that runs them, are left out.
    """
    main_threads, pid = {id(thread) for thread in _main_threads(copies)}, os.getpid()
    # where threads may be greenlets: the idents of those that are none
    real = sys._current_frames() if _is_patched() else None
    found: list[tuple[int, int, Any]] = []
    for copy in _current_first(copies):
        # one step in C, so that no other thread changes the dictionary meanwhile
        for ident, thread in list(copy["_active"].items()):
            is_main = id(thread) in main_threads
            if isinstance(thread, copy["_DummyThread"]):
                doubt = 3
            elif is_main:
                doubt = 0 if thread._native_id == pid else 2
            else:
                doubt = 1
            if is_main or real is None or ident in real:
                found.append((doubt, ident, thread))
    found.sort(key=lambda item: item[0])
    return [(ident, thread) for _, ident, thread in found]


def _is_patched() -> bool:
    """Return whether threads may be greenlets, which have idents of their own."""
    return _get_ident is not _thread.get_ident


def _main_threads(copies: "list[dict[str, Any]]") -> "list[Any]":
    """Return the main thread, as each copy of threading knows it."""
    return [copy["_main_thread"] for copy in _current_first(copies) if "_main_thread" in copy]


def _current_first(copies: "list[dict[str, Any]]") -> "list[dict[str, Any]]":
    """Return the copies of threading: first the one that the application imports now."""
    current = vars(sys.modules.get("threading", sys))
    return sorted(copies, key=lambda copy: copy is not current)


_publisher = Publisher()
publish = _publisher.start
unpublish = _publisher.stop
