"""A program that has a hard time: ``hardship.py BODY [ARGUMENT]``.

The test compares all that it prints, and its end, with and without a publisher. So it prints no numbers of
its own making, and catches nothing that it would not catch in earnest. Whether a table is published at its
end it says in the file of $HARDSHIP_SAYS, which is not compared.
"""

import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time

import lab


def show(*values):
    """Print at once, so that forked copies do not print it again."""
    print(*values, flush=True)


def says():
    """Tell the test whether a table is published."""
    publisher = sys.modules.get("threadwatch.publisher.publisher")
    published = publisher is not None and publisher._publisher.table is not None
    with open(os.environ["HARDSHIP_SAYS"], "w") as file:
        file.write("published" if published else "not published")


def run(target, *args, **options):
    """Run something in a thread to its end."""
    thread = threading.Thread(target=target, args=args, **options)
    thread.start()
    thread.name = "renamed"
    thread.join()
    return thread


def child(body):
    """Run something in a forked copy, and give its exit status."""
    pid = os.fork()
    if not pid:
        status = 99
        try:
            status = body() or 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]


def of_a_child():
    """What each child does: a thread, and an exit status."""
    said = []
    run(said.append, 7)
    return said[0]


def life():
    """Threads, exceptions, forks and programs, as every application has them."""

    def fail():
        raise ValueError("of a thread")

    show("begins", [thread.name for thread in threading.enumerate()])
    show([run(show, "thread", number).name for number in range(3)])
    sys.stderr.write("on stderr\n")
    threading.excepthook = lambda given: show("hook", repr(given.exc_value))
    run(fail)
    show("children", child(of_a_child) >> 8, child(lambda: run(child, of_a_child) and 5) >> 8)
    done = subprocess.run(
        ["/bin/sh", "-c", "echo a program; exit 3"], stdout=subprocess.PIPE, check=False
    )
    show(done.returncode, repr(done.stdout))
    says()
    raise SystemExit("the end")


def numbers():
    """Files are numbered from the first that is free, before and after threads and a fork."""
    if sys.argv[2] == "all":
        os.closerange(0, 4096)

    def files():
        found = [os.open("/dev/null", os.O_RDWR) for _ in range(3)]
        for number in found:
            os.close(number)
        return found

    seen = [files()]
    run(seen.append, "a thread")
    seen.append(files())
    where = os.environ["HARDSHIP_SAYS"] + ".child"

    def forked():
        found = [files(), of_a_child(), files()]
        with open(where, "w") as file:
            file.write(repr(found))

    seen.append(child(forked))
    for number in range(100):  # so many that a table that has been lost is missed
        run(int, name="another %d" % number)
    seen.append(files())
    with open(where) as file:
        seen.append(file.read())
    says()
    out = os.environ["HARDSHIP_OUT"]
    # a daemon's three files, by their numbers
    assert [os.open(out, os.O_RDWR | os.O_APPEND) for _ in range(3)] == [0, 1, 2], seen
    for number in range(3):
        os.set_inheritable(number, True)
    show(seen, sys.stdin, sys.stdout, sys.stderr)
    os.write(1, repr(seen).encode())
    subprocess.run(["/bin/echo", "a program"], check=True)
    run(os.write, 2, b"a thread")


def last_words():
    """All files have been closed, and what was opened since is left to the interpreter to write."""
    where = [os.environ["HARDSHIP_SAYS"] + ".%d" % number for number in range(4)]
    if sys.argv[2:]:
        os.closerange(3, 4096)
        globals()["FILES"] = [open(path, "w") for path in where]  # noqa: SIM115  # nobody closes them
        for file in globals()["FILES"]:
            file.write("the last words")
        return
    subprocess.run([sys.executable, __file__, "last_words", "and end"], check=True)
    for path in where:
        with open(path) as file:
            show(file.read())
    says()


def memory():
    """Less address space is left than a table takes."""
    here = sys.modules.get("threadwatch")
    if here:
        here.unpublish()
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    threading.stack_size(256 << 10)
    limit = pages * resource.getpagesize() + (6 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    if here:
        here.publish()
    for size in (8, 64, 1024):
        try:
            bytearray(size << 20)
        except MemoryError as error:
            show(size, repr(error))
    show([run(show, "thread", number).name for number in range(3)])
    show("children", [child(of_a_child) >> 8 for _ in range(3)])
    says()


def forks():
    """Every thread forks, all at once."""
    barrier = threading.Barrier(8)
    statuses = []

    def fork():
        barrier.wait(lab.DEADLINE)
        statuses.extend(child(of_a_child) for _ in range(3))

    crowd = [threading.Thread(target=fork) for _ in range(8)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    show(len(statuses), set(statuses))
    says()


def spawns():
    """Programs by posix_spawn, vfork and system, from threads too, and what they inherit."""
    look = "ls /proc/self/fd; exit 4"

    def spawn():
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", look], {"PATH": os.environ["PATH"]})
        show(os.waitpid(pid, 0)[1])
        show(subprocess.run(["/bin/sh", "-c", look], close_fds=False, check=False).returncode)
        show(os.system(look))  # noqa: S605  # a line of our own

    spawn()
    run(spawn)
    says()


def shutdown():
    """The interpreter ends while daemon threads start others, rename themselves, and publish."""
    here = sys.modules.get("threadwatch")

    def rename():
        while True:
            threading.current_thread().name = "spins"

    def publish():
        while True:
            if here:
                here.unpublish()
                here.publish()

    for target in (rename, publish, lambda: time.sleep(1000)):
        threading.Thread(target=target, daemon=True).start()
    run(show, "thread")
    says()
    sys.exit(6)


def cycles():
    """A hundred times on and off, and no trace is left, without a collection of cyclic garbage meanwhile."""
    here = sys.modules.get("threadwatch")
    if here is None and os.environ["LAB_MODE"] != "plain":
        import threadwatch as here
    if here:
        here.unpublish()
    staying = lab.Attendance()
    staying.start("stays", "stays too")

    def cycle():
        if here:
            here.publish()
        run(int, name="in between")
        if here:
            here.unpublish()
        run(int, name="without")

    def left():
        lab.wait_for(lambda: len(lab.tasks()) == 3, "the end of threads that have been joined")
        with open("/proc/self/maps") as file:
            maps = [line for line in file if "/memfd:threadwatch" in line]
        return {
            "files": sorted(os.listdir("/proc/self/fd")),
            "mappings": maps,
            "hooks": [vars(threading.Thread)["name"], threading.Thread._set_native_id],
            "finders": list(sys.meta_path),
            "trace": [sys.gettrace(), sys.getprofile(), threading._profile_hook],
        }

    def memory():
        with open("/proc/self/statm") as file:
            return sys.getallocatedblocks(), int(file.read().split()[1])

    gc.disable()
    before = left()
    for _ in range(20):
        cycle()
    blocks, pages = memory()
    for _ in range(100):
        cycle()
    more_blocks, more_pages = memory()
    after = left()
    show({what: found == after[what] for what, found in before.items()})
    show(more_blocks - blocks < 100 or more_blocks - blocks)  # less than one for each time
    show(more_pages - pages < 100 or more_pages - pages)
    gc.collect()
    staying.dismiss()
    says()


def signals():
    """Whatever a signal handler raises arrives, wherever it comes in between, and nothing is left behind."""
    here = sys.modules.get("threadwatch")

    class Alarm(TimeoutError):
        """What the handler raises: an OSError, as many do."""

    raised = arrived = 0

    def handler(*_):
        nonlocal raised
        raised += 1
        raise Alarm

    def work(before):
        signal.setitimer(signal.ITIMER_REAL, 0.0001 + raised % 50 * 0.00002)
        while raised == before:
            if here:
                here.unpublish()
                here.publish()
            run_to_next_signal()

    def run_to_next_signal():
        """Where a handler can come in between without us, too."""

    if here:
        here.unpublish()
    hooked = [vars(threading.Thread)["name"], threading.Thread._set_native_id]
    signal.signal(signal.SIGALRM, handler)
    for before in range(200):
        try:
            work(before)
        except Alarm:
            arrived += 1
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if here:
        here.publish()
    says()
    if here:
        here.unpublish()
    show("lost", raised - arrived)
    # an error between a system call and the next step cannot be cleaned up after
    show("left", len(lab.tables()) < 40 or lab.tables())
    show([vars(threading.Thread)["name"], threading.Thread._set_native_id] == hooked)
    run(show, "thread")


lab.publish()
globals()[sys.argv[1]]()
