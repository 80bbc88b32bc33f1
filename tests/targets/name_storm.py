"""Threads whose names are hard to read from outside: of every kind, renamed and ended all the time.

Commands come by stdin, one a line; each is answered by a line of JSON. Nothing here publishes.
"""

import _thread
import json
import os
import random
import sys
import threading
import time

stop = threading.Event()
threads = []
log = []


def start(name=None, target=stop.wait, cls=threading.Thread):
    """A thread more, which is a daemon, so that the program can end at any moment."""
    thread = cls(target=target, name=name, daemon=True)
    thread.start()
    threads.append(thread)
    return thread


class Slotted(threading.Thread):
    """Has slots in front of its attributes."""

    __slots__ = ("one", "two")


class Plain(threading.Thread):
    """Has attributes of its own."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.first = self.second = None


class Overridden(threading.Thread):
    """Tells another name than it was given."""

    @property
    def name(self):
        """Not what it is called."""
        return "overridden"


def dummy():
    """A thread that threading has not started, and knows all the same."""
    threading.current_thread()
    stop.wait()


def kinds():
    """Threads of every kind."""
    names = [
        "worker-1",
        "w" * 15,
        "exactly-sixteen.",
        "long-" * 100,
        "Käse-Ünïcode",
        "日本語スレッド",
    ]
    names += [
        "emoji-😀-thread",
        "mixed-é日😀",
        "new\nline\ttab\x01",
        "nul\0byte",
        "sur\udc80rogate",
        "",
        " ",
    ]
    names += ["é" * 300, "😀" * 300, "\ud83d\ude00 apart", "x" * 70000, None, None]
    for name in names:
        start(name)
    start("plain", cls=Plain)
    start("slotted", cls=Slotted)
    start("base", cls=Overridden)
    vars(start("dict-seen"))
    start("dict-changed").__dict__["more"] = 1
    for number in range(60):
        setattr(threads[-1], "attribute%d" % number, number)
    thread = start("attribute-deleted")
    thread.more = 1
    del thread.more
    thread = start("dict-replaced")
    thread.__dict__ = dict(thread.__dict__)
    thread = start("before")
    thread.__dict__ = dict(thread.__dict__)
    thread.name = "in a new dict"
    start("before").name = "renamed-é"
    ready = threading.Event()

    def rename():
        threading.current_thread().name = "renamed by itself"
        ready.set()
        stop.wait()

    start("before", target=rename)
    ready.wait()
    count = len(threading.enumerate())
    _thread.start_new_thread(dummy, ())
    while len(threading.enumerate()) == count:
        time.sleep(0.001)
    _thread.start_new_thread(stop.wait, ())


def rename(prefix):
    """Give all of them new names."""
    for number, thread in enumerate(threads):
        threading.Thread.name.fset(thread, "%s-%d" % (prefix, number))


def move(name):
    """Have the threads known by another dict, then start one."""
    threading._active = dict(threading._active)
    start(name)


def renamers(count):
    """Threads that give themselves names all the time: of one letter each, and the thread's own number."""

    def run(number):
        me = threading.current_thread()
        turn = 0
        while not stop.is_set():
            turn += 1
            me.name = chr(97 + turn % 26) * (8 + turn * 7 % 40) + ":%d" % number
            if turn % 100 == 0:
                time.sleep(0.0001)
            if turn % 5000 == 0:
                time.sleep(0.03)  # long enough to be read three times

    for number in range(int(count)):
        start("r:%d" % number, target=lambda number=number: run(number))


def short(count):
    """Threads that start others all the time, which live for 1 to 30 ms, and log who they were."""

    def brief():
        me = threading.current_thread()
        log.append((_native(), me._name))
        time.sleep(random.choice((0.001, 0.002, 0.008, 0.03)))

    def run(number):
        turn = 0
        while not stop.is_set():
            turn += 1
            some = [threading.Thread(target=brief, daemon=True) for _ in range(5)]
            for place, thread in enumerate(some):
                thread.name = "s%d-%d-%d" % (number, turn, place)
                thread.start()
            for thread in some:
                thread.join()

    for number in range(int(count)):
        start("starter-%d" % number, target=lambda number=number: run(number))


def _native():
    return threading.get_native_id()


def report():
    """TID and name of each thread that threading knows; as numbers: JSON joins surrogates."""
    main = threading.main_thread()
    return [
        [os.getpid() if thread is main else thread.native_id, [ord(c) for c in thread._name]]
        for thread in threading.enumerate()
    ]


def fork(path):
    """A child that has threads of its own, and tells which in a file."""
    pid = os.fork()
    if pid:
        return pid
    threads.clear()
    start("in the child")
    with open(path + ".new", "w") as file:
        json.dump(report(), file)
    os.rename(path + ".new", path)
    time.sleep(600)
    os._exit(0)


def fork_in_thread(path):
    """As :func:`fork`, by a thread that is the child's main one then."""
    answer = []
    thread = threading.Thread(target=lambda: answer.append(fork(path)), name="forker")
    thread.start()
    thread.join()
    return answer[0]


def subinterpreter():
    """A subinterpreter with threads of its own."""
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters

    code = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), name='inside').start()\n"
    read, write = os.pipe()
    code += "import os; os.write(%d, b'x'); time.sleep(600)" % write

    def run():
        try:
            one = interpreters.create(isolated=False)  # else it may have no threads in 3.9
        except TypeError:
            one = interpreters.create()
        interpreters.run_string(one, code)

    _thread.start_new_thread(run, ())
    os.read(read, 1)


def finish(path):
    """Stop all, and write the log."""
    stop.set()
    time.sleep(0.2)
    with open(path, "w") as file:
        json.dump(log, file)


def replace_program(generation):
    """Become this program again, with another name for its thread."""
    os.execv(sys.executable, [sys.executable, "-W", "ignore", __file__, generation])


def many(count):
    """So many threads that wait."""
    for number in range(int(count)):
        start("many-%05d" % number)


def compute(count):
    """So many threads that compute."""

    def run():
        while not stop.is_set():
            pass

    for number in range(int(count)):
        start("computes-%d" % number, target=run)


def publish(checkout):
    """Begin to publish."""
    sys.path.insert(0, checkout)
    import threadwatch

    assert threadwatch.publish()


def unpublish(_checkout):
    """Publish no longer."""
    import threadwatch

    threadwatch.unpublish()


COMMANDS = {
    f.__name__: f
    for f in (kinds, rename, renamers, short, report, fork, fork_in_thread, subinterpreter, finish)
}
COMMANDS.update(move=move, replace_program=replace_program, many=many, compute=compute)
COMMANDS.update(publish=publish, unpublish=unpublish)

if len(sys.argv) > 1:
    start("generation-" + sys.argv[1])
print(json.dumps(os.getpid()), flush=True)
for line in sys.stdin:
    command, *arguments = line.split()
    print(json.dumps(COMMANDS[command](*arguments)), flush=True)
os._exit(0)
