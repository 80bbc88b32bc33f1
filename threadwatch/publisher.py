"""Publishes the names of this process's threads in a memfd that a daemon can read.

Runs inside other people's processes, so these are its rules:

* It raises nothing of its own into the application, and swallows nothing of the application's: its
  signal handlers may run, and raise, in the middle of our code.
* It starts no thread, takes no lock and makes nobody wait. An
  event (a thread starts, ends, is renamed) costs a few microseconds; without events it costs nothing.
* The table is written through a shared mapping. A store needs no file descriptor, so an application
  that closes all descriptors can never make us write into a file of its own; and it never lets go of
  the GIL, so a thread that starts does not queue for it again.
* A start is seen by a wrapper round ``Thread._set_native_id``, which runs in the new thread before
  ``start()`` returns; an end by an object in a thread-local variable, whose ``__del__`` runs in the
  dying thread; a new name by a wrapper round the ``Thread.name`` setter. None of them exists until
  the application itself imports :mod:`threading`, because gevent has to come first.
* A forked child makes a table of its own. What a parent's threads leave behind in the child (their
  thread-locals are cleared there) is told by the PID that each table knows.
* Only what the threading module itself says is published, and only for real threads: a greenlet that
  calls itself a thread has another ident than the thread that runs it.

The layout is in :mod:`threadwatch.table`. Works on CPython 3.9 and later; imports nothing but the
standard library's built-in and extension modules.
"""

import _thread
import os
import sys
from time import thread_time_ns

from threadwatch import complain, gil, hooks, is_ours, writer
from threadwatch import table as layout

TYPE_CHECKING = False  # importing `typing` for its own would cost the target 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _real(name: str) -> "Any":
    """An attribute of ``_thread`` as it was before gevent patched it."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original("_thread", name)
    return getattr(_thread, name)


_get_ident: "Callable[[], int]" = _real("get_ident")
_get_native_id: "Callable[[], int]" = _real("get_native_id")
_local: "Callable[[], Any]" = _real("_local")


class _Guard:
    """Lives in a thread's thread-local variable, and so dies with the thread, in the thread."""

    __slots__ = ("ended", "record")

    def __init__(self, record: writer.Record, ended: "Callable[[writer.Record], None]") -> None:
        self.record = record
        self.ended = ended

    def __del__(self) -> None:
        try:
            self.ended(self.record)
        except Exception:  # noqa: BLE001, S110 - nothing of ours may reach the application, least of all
            pass  # while the interpreter goes down and half of it is gone


class Publisher:
    """What is done at each event, and the table that it is written to while switched on."""

    table: "writer.Table | None" = None

    def __init__(self) -> None:
        self._guards: Any = None
        self._gil = gil.NOT_FOUND
        self._ended = self.ended  # bound once: it is needed at each birth
        self._hooks = hooks.Hooks(
            started=self.started, renamed=self.renamed, ready=self.threading_ready
        )
        self._registered = False

    def start(self) -> bool:
        """Begin to publish; see :func:`threadwatch.publish`."""
        try:
            # Each of these is done, or done again, if a signal handler raised in the middle of the last time.
            if self.table is None or self.table.pid != os.getpid():
                if self._gil == gil.NOT_FOUND:
                    # it stays where it is, in forked children too, which have what they inherit
                    self._gil = gil.find(_get_ident(), _get_native_id())
                self._new_table(forked=False)
            if not self._registered:
                os.register_at_fork(after_in_child=self.forked)
                if hooks.interpreter_id() != 0:
                    # A process can outlive many subinterpreters, which free nothing by themselves. Before
                    # 3.13, where the id is not known, a mapping closes its descriptor when it is freed, and
                    # has to be asked before whether that is still ours.
                    import atexit  # noqa: PLC0415 - seldom of use

                    atexit.register(self.stop)
                self._registered = True
            self._hooks.install()
        except Exception as error:
            if not is_ours(error):
                raise
            complain(error)
        return self.table is not None

    def stop(self) -> None:
        """Cease to publish; see :func:`threadwatch.unpublish`."""
        try:
            self._leave()
            self._hooks.remove()
        except Exception as error:
            if not is_ours(error):
                raise
            complain(error)

    def started(self, thread: "Any") -> None:
        """``thread`` is starting: called in that very thread, with its ident and TID known."""
        table = self.table
        if table is None:
            return
        if table.pid != os.getpid():  # forked, and our turn has not come yet, or never will
            self.forked()
            table = self.table
            if table is None:
                return
        ident = _get_ident()
        if thread._ident != ident:  # a greenlet: its ident is the greenlet's
            return
        tid = thread._native_id  # what we wrap has just set it
        record = table.records.get(ident)
        if record is not None:
            if record.guarded and record.tid == tid:
                is_dummy = type(thread).__name__ == "_DummyThread"
                if record.owner == id(thread) or is_dummy:
                    return  # told twice; or it is on its way out, and known by its true name
            table.end(record, layout.CPU_UNKNOWN)  # it ended without a word (pthread_exit)
        # `name` may be overridden
        if type(thread).__name__ == "_DummyThread":
            record = table.add(tid, ident, thread._name, layout.VISITOR)
        else:
            record = table.add(tid, ident, thread._name, 0, thread_time_ns())
        if record is not None:
            self._guard(record, thread)
            if table.descriptor_lost(record.serial):
                self._new_table(forked=False)

    def renamed(self, thread: "Any") -> None:
        """``thread`` may have another name; called in any thread."""
        table = self.table
        if table is not None and table.pid == os.getpid():
            record = table.records.get(thread._ident or 0)
            if record is not None:
                table.rename(record, thread._name)

    def ended(self, record: writer.Record) -> None:
        """The thread of ``record`` is ending: called in it, or where its variables are cleared."""
        table = record.table
        if table is not self.table:
            return
        if record.tid == _get_native_id():
            table.end(record, thread_time_ns())
        elif table.pid == os.getpid():
            # in a forked child the parent's threads end too, in the one thread that is left
            table.end(record, layout.CPU_UNKNOWN)

    def forked(self) -> None:
        """In a forked child: leave the parent's table, and make one for the only thread left.

        Called again after the threading module has put its own house in order, for the name.
        """
        try:
            if self.table is None:
                return
            if self.table.pid != os.getpid():
                self._new_table(forked=True)
            else:
                self._adopt(self.table, forked=True)
        except Exception as error:
            if not is_ours(error):
                raise
            complain(error)

    def threading_ready(self) -> None:
        """The application has imported :mod:`threading`; what that knows is in force from now on."""
        if self.table is not None:
            os.register_at_fork(after_in_child=self.forked)  # so that it runs after threading's own
            self._adopt(self.table, forked=False)

    def _adopt(self, table: writer.Table, *, forked: bool) -> None:
        """Publish the threads that are there already; after a fork, that is this one alone."""
        me, my_tid = _get_ident(), _get_native_id()
        threading = sys.modules.get("threading")
        if threading is None or not hasattr(threading, "_active"):
            if my_tid == table.pid and hooks.interpreter_id() <= 0 and me not in table.records:
                table.add(my_tid, me, "MainThread", layout.ADOPTED)
            return
        taken: dict[int, writer.Record | None] = {r.tid: r for r in table.records.values()}
        for ident, thread in _in_order_of_belief(threading):
            tid = my_tid if ident == me else thread._native_id  # stale after a fork
            if not tid or (forked and ident != me):
                continue
            if tid not in taken:
                record = taken[tid] = table.add(tid, ident, thread._name, layout.ADOPTED)
                if record is not None and ident == me and tid != table.pid:
                    self._guard(record, thread)
                continue
            record = taken[tid]
            if record is not None and record.ident == ident:
                table.rename(record, thread._name)
        if my_tid == table.pid and my_tid not in taken and hooks.interpreter_id() <= 0:
            # gevent knows the main thread by the ident of a greenlet
            table.add(my_tid, me, threading._main_thread._name, layout.ADOPTED)

    def _guard(self, record: writer.Record, thread: object) -> None:
        record.guarded = True
        record.owner = id(thread)
        self._guards.guard = _Guard(record, self._ended)

    def _new_table(self, *, forked: bool) -> None:
        """Replace the table, if there is one, and fill it with the threads that there are now."""
        self._leave()
        self._guards = _local()
        table = writer.Table(
            flags=layout.FREE_THREADED if "t" in sys.abiflags else 0,
            interpreter=hooks.interpreter_id(),
            implementation=sys.implementation.name,
            hexversion=sys.hexversion,
            gil=self._gil,
        )
        try:
            self._adopt(table, forked=forked)
        except BaseException:
            table.close()
            raise
        self.table = table

    def _leave(self) -> None:
        """Close the table, if there is one."""
        table = vars(self).pop("table", None)  # in one step: one thread alone closes it
        # the guards in other threads go with the variable, and nothing ends by that
        self._guards = None
        if table is not None:
            try:
                table.close()
            except BaseException:  # of a signal handler
                table.close()
                raise


def _in_order_of_belief(threading: "Any") -> "list[tuple[int, Any]]":
    """The threads that the threading module knows, the more trustworthy first.

    The first to claim a TID has it: greenlets borrow the TID of the thread that runs them, and
    before 3.13 dummies outlive their threads, so that another thread may have their TID by now.
    """

    def doubt(item: "tuple[int, Any]") -> int:
        if item[1] is threading._main_thread:
            return 0
        return 2 if isinstance(item[1], threading._DummyThread) else 1

    # one step in C, so that no other thread changes the dictionary meanwhile
    return sorted(list(threading._active.items()), key=doubt)  # noqa: C414


_publisher = Publisher()
publish = _publisher.start
unpublish = _publisher.stop
