"""Subinterpreters (CPython 3.13 and later), each with a ``threading`` of its own.

``interpreters.py run``: each publishes, by ``threadwatch run``; ``interpreters.py publish``: the main
one only.
"""

import json
import os
import sys
import threading

import _interpreters
import lab

lab.publish()
SOURCE = "published" if sys.argv[1] == "run" else "comm"
told, tell = os.pipe()
hold, release = os.pipe()

THREADS = """
import json, os, threading

def stay():
    name = threading.current_thread().name
    who = dict(tid=threading.get_native_id(), name=name, source={source!r})
    os.write({tell}, json.dumps(who).encode() + b"\\n")
    os.read({hold}, 1)

renamed = threading.Thread(target=stay)
renamed.name = "renamed in a subinterpreter"
named = threading.Thread(target=stay, name="of a subinterpreter")
for thread in (named, threading.Thread(target=stay), renamed):
    thread.start()
"""
CURRENT = """
import os, threading
threading.current_thread().name
os.write({tell}, b"\\n")
os.read({hold}, 1)
"""


def execute(interpreter, code):
    """Run code in a subinterpreter; whatever it raises, raise."""
    failed = _interpreters.exec(interpreter, code.format(source=SOURCE, tell=tell, hold=hold))
    if failed is not None:
        raise RuntimeError(failed)


def lines(count):
    """What the threads of subinterpreters have said."""
    data = b""
    while data.count(b"\n") < count:
        data += os.read(told, 4096)
    return data.splitlines()


def threads():
    """A subinterpreter's threads beside those of the main one."""
    crowd = lab.Attendance()
    people = [lab.me(), *crowd.start("of the main interpreter", None)]
    first, second = _interpreters.create(), _interpreters.create()
    execute(first, THREADS)
    execute(second, THREADS)
    people += [json.loads(line) for line in lines(6)]
    lab.step("threads of subinterpreters", lab.process(people))
    people += crowd.start("of the main interpreter, later")
    lab.step("and one later", lab.process(people))
    os.write(release, b"." * 6)
    _interpreters.destroy(first)
    _interpreters.destroy(second)
    people = [who for who in people if "sub" not in who["name"]]
    alive = lab.tasks()
    lab.step("destroyed", lab.process(who for who in people if who["tid"] in alive))
    crowd.dismiss()


def visitors():
    """A thread of the main interpreter that runs code of another keeps its name."""
    interpreter = _interpreters.create()
    thread = threading.Thread(target=execute, args=(interpreter, CURRENT), name="visitor")
    thread.start()
    lines(1)
    who = {"tid": thread.native_id, "name": "visitor", "source": "published"}
    lab.step("a visitor in a subinterpreter", lab.process([lab.me(), who]))
    os.write(release, b".")
    thread.join()
    os.write(release, b".")
    execute(interpreter, CURRENT)
    lines(1)
    lab.step("the main thread has visited", lab.process([lab.me()]))
    _interpreters.destroy(interpreter)
    lab.step("visited and destroyed", lab.process([lab.me()]))


def no_leak():
    """Subinterpreters that come and go leave no descriptors."""

    def once():
        interpreter = _interpreters.create()
        execute(
            interpreter,
            "import threading; thread = threading.Thread(target=int); thread.start(); thread.join()",
        )
        _interpreters.destroy(interpreter)

    once()
    before, tables = len(os.listdir("/proc/self/fd")), lab.tables()
    for _ in range(20):
        once()
    assert len(os.listdir("/proc/self/fd")) <= before, (before, os.listdir("/proc/self/fd"))
    assert lab.tables() == tables, (tables, lab.tables())
    lab.step("twenty subinterpreters later", lab.process([lab.me()]))


def executor():
    """InterpreterPoolExecutor (3.14): a thread and an interpreter for each worker."""
    from concurrent.futures import InterpreterPoolExecutor

    with InterpreterPoolExecutor(2) as pool:
        for _ in range(2):
            pool.submit(os.read, hold, 1)
        people = lab.everyone()
        assert len(people) == 3, people
        lab.step("InterpreterPoolExecutor", lab.process(people))
        os.write(release, b"..")
    lab.step("shut down", lab.process([lab.me()]))


threads()
visitors()
no_leak()
if sys.version_info >= (3, 14):
    executor()
