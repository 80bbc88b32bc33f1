"""A program that does much with threads and prints all that it sees.

The test compares its output, to the byte, and its exit with and without a publisher: nothing may
differ. So it prints no addresses, TIDs or paths of its own.
"""

import atexit
import contextlib
import copy
import gc
import inspect
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
import weakref

if os.environ.get("LAB_MODE") == "publish":
    import threadwatch

    threadwatch.publish()

sys.stderr = sys.stdout


def show(*values):
    """Print at once, so that forked copies do not print it again."""
    print(*values, flush=True)


def run(target, *args, **options):
    """Run something in a thread to its end."""
    thread = threading.Thread(target=target, args=args, **options)
    thread.start()
    thread.join()
    return thread


def views():
    """What can be asked of threading."""
    show(sorted(vars(threading)), sorted(vars(threading.Thread)))
    show(
        [
            str(inspect.signature(getattr(threading.Thread, name)))
            for name in ("start", "run", "join", "setName")
        ]
    )
    show(
        repr(type(threading.Thread.name)),
        threading.Thread.name.__doc__,
        threading.Thread.setName.__doc__,
    )
    show([thread.name for thread in threading.enumerate()], threading.active_count())
    thread = run(int, name="asked")
    show(re.sub(r"\d{4,}", "N", repr(thread)), thread.is_alive(), sorted(vars(thread)))
    show(type(thread.native_id), thread.native_id != os.getpid())
    with contextlib.suppress(TypeError):
        copy.copy(thread)
    for value in (None, 7, b"bytes", ["list"]):
        thread.name = value
        show(repr(thread.name))
    for odd in (
        lambda: setattr(threading.Thread.__new__(threading.Thread), "name", "x"),
        thread.start,
    ):
        try:
            odd()
        except Exception as error:  # of any kind: it is what is compared
            show(type(error), error)
    seen = weakref.ref(thread)
    del thread, odd
    gc.collect()
    show("collected", seen() is None, gc.garbage)
    show(
        sys.getswitchinterval(), threading.stack_size(), sys.gettrace(), sys.getprofile(), sys.flags
    )
    show(
        [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGCHLD)], warnings.filters
    )


def stacks():
    """The frames of a thread, from inside and from outside."""
    ready, leave = threading.Event(), threading.Event()

    def inside():
        show([frame.name for frame in traceback.extract_stack()])
        ready.set()
        leave.wait()

    thread = threading.Thread(target=inside)
    thread.start()
    ready.wait()
    time.sleep(0.01)
    stack = sys._current_frames()[thread.ident]
    show([frame.f_code.co_name for frame, _ in traceback.walk_stack(stack)])
    leave.set()
    thread.join()


def failures():
    """Threads that end badly."""

    def fail(depth):
        if depth:
            fail(depth - 1)
        raise ValueError("of a thread")

    def endless():
        endless()

    class Refuses(threading.Thread):
        """Cannot be asked for its name, nor run."""

        def run(self):
            raise KeyError(self.name)

    run(fail, 2)
    run(sys.exit, 3)
    run(endless)
    thread = Refuses()
    thread.start()
    thread.join()
    before, threading.excepthook = (
        threading.excepthook,
        lambda given: show("hook", given.exc_type, given.thread.name),
    )
    run(fail, 1, name="with a hook")
    threading.excepthook = before


def deep():
    """Renaming and starting where hardly a frame is left."""
    current = threading.current_thread()
    outcome = []

    def down():
        with contextlib.suppress(RecursionError):
            current.name = "deep"
            down()

    down()
    current.name = "MainThread"
    outcome.append(threading.current_thread().name)
    show(outcome)


def interrupted():
    """Exceptions of signal handlers arrive, wherever in a rename the signal does."""

    class Alarm(Exception):
        """What the handler raises."""

    raised = arrived = 0

    def handler(*_):
        nonlocal raised
        raised += 1
        raise Alarm

    current = threading.current_thread()
    signal.signal(signal.SIGALRM, handler)

    def rename(before):
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        while raised == before:
            current.name = "interrupted"

    for before in range(200):
        try:
            rename(before)
        except Alarm:
            arrived += 1
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    current.name = "MainThread"
    show("alarms lost", raised - arrived)


def children():
    """Forked copies: their exits, threads and last words."""

    def child(body):
        pid = os.fork()
        if not pid:
            status = 99
            try:
                body()
                status = 0
            except SystemExit as error:
                status = error.code
            except BaseException:  # as the interpreter does before it ends
                traceback.print_exc()
                sys.stdout.flush()
            os._exit(status)
        show("child", os.waitpid(pid, 0)[1])

    def threads():
        run(show, "thread of a child", name="in the child")
        show([thread.name for thread in threading.enumerate()])

    child(threads)
    child(lambda: sys.exit(5))
    child(lambda: 1 // 0)
    child(lambda: os.kill(os.getpid(), signal.SIGTERM))
    run(child, threads, name="forker")


def last():
    """At exit: handlers, then daemon threads that are cut off at work."""
    atexit.register(show, "atexit")
    atexit.register(lambda: run(show, "thread at exit") if sys.version_info < (3, 12) else None)

    def spin():
        while True:
            threading.current_thread().name = "spins"

    def breed():
        while True:
            with contextlib.suppress(RuntimeError):  # no new threads at the end of the interpreter
                run(int)

    daemons = [spin, lambda: time.sleep(1000)]
    # Before 3.14 a thread that is born while the interpreter is finalized looks at its thread state after
    # that has been freed. In development mode, where what is freed is overwritten, Python crashes by it now
    # and then, with a publisher and without.
    if sys.version_info >= (3, 14):
        daemons.append(breed)
    for target in daemons:
        threading.Thread(target=target, daemon=True).start()
    main = threading.main_thread()  # has ended, for others, when its traceback has been written
    threading.Thread(target=lambda: (main.join(), show("outlives main"))).start()


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    views()
    stacks()
    failures()
    deep()
    interrupted()
    children()
    last()
raise LookupError("the end of the main thread")
