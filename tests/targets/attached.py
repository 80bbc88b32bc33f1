"""attached.py MODE: a program that is attached to. It tells its threads, and at its end what it has done.

Nothing of it may show that it has been attached to. It ends when it is told to, by a line on its standard
input.
"""

import atexit
import json
import os
import signal
import sys
import threading
import time

mode = sys.argv[1]
finish = threading.Event()
result = {"mode": mode}


def ready():
    """Tell the threads that there are."""
    threads = {thread.native_id: thread.name for thread in threading.enumerate()}
    print(json.dumps({"pid": os.getpid(), "threads": threads}), flush=True)


def control():
    """Wait for the line that ends the program."""
    sys.stdin.readline()
    finish.set()


def start(name, function, *, daemon=True):
    """Start a thread."""
    threading.Thread(target=function, name=name, daemon=daemon).start()


def tick():
    """Wake now and then."""
    while not finish.is_set():
        time.sleep(0.02)


def compute():
    """Use a CPU."""
    while not finish.is_set():
        sum(range(100))


def loop():
    """The main thread wakes now and then."""
    start("control", control)
    ready()
    tick()


def busy():
    """The main thread computes."""
    start("control", control)
    ready()
    compute()


def blocked():
    """The main thread waits for another, which computes."""
    start("control", control)
    start("worker", compute, daemon=False)
    ready()
    finish.wait()


def many():
    """Hundreds of threads wait, and one wakes now and then."""
    start("control", control)
    for number in range(300):
        start("waits-%d" % number, finish.wait)
    start("ticker", tick)
    ready()
    finish.wait()


def end():
    """The main thread is at its end, and waits for another."""
    start("control", control)
    start("ticker", tick, daemon=False)
    ready()


def idle():
    """An event loop without a timer, and no other thread."""
    import asyncio

    async def main():
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = 1000  # -X dev tells of those that a busy machine makes slow
        loop.add_reader(0, told.set)
        ready()
        await told.wait()

    asyncio.run(main())


def alone():
    """No thread runs Python until a line comes."""
    ready()
    sys.stdin.readline()


def later():
    """No thread runs Python until a line comes; then one does, until another comes."""
    ready()
    sys.stdin.readline()
    start("control", control)
    tick()


def interpreters():
    """There is another interpreter, which is younger."""
    from concurrent import interpreters

    other = interpreters.create()
    other.exec("import threading")
    start("control", control)
    ready()
    tick()
    other.close()


def interrupted():
    """A signal comes in the middle of the script, and its handler raises."""

    class Told(Exception):
        pass

    def handler(_number, _frame):
        raise Told

    def hook(event, arguments):
        if (
            event == "compile"
            and arguments[1] == "<threadwatch.publisher.publisher>"
            and not result["sent"]
        ):
            result["sent"] = True
            signal.raise_signal(signal.SIGUSR1)

    result.update(sent=False, caught=False)
    signal.signal(signal.SIGUSR1, handler)
    sys.addaudithook(hook)
    start("control", control)
    told = False
    while not finish.is_set():
        try:
            if not told:
                told = True
                ready()  # from here on the signal can come
            tick()
        except Told:
            result["caught"] = True


def forbidden():
    """Scripts of debuggers are not allowed."""

    def hook(event, _arguments):
        if "remote_debugger_script" in event:
            raise PermissionError("not here")

    sys.unraisablehook = lambda unraisable: result.update(refused=str(unraisable.exc_value))
    sys.addaudithook(hook)
    loop()


def filtered():
    """A seccomp filter refuses memfd_create, or kills for it."""
    import ctypes
    import struct

    def instruction(code, if_true, if_false, value):
        return struct.pack("=HBBI", code, if_true, if_false, value)

    action = {"errno": 0x00050001, "kill": 0x80000000}[sys.argv[2]]
    number = 279 if os.uname().machine == "aarch64" else 319
    program = ctypes.create_string_buffer(
        instruction(0x20, 0, 0, 0)
        + instruction(0x15, 0, 1, number)
        + instruction(0x06, 0, 0, action)
        + instruction(0x06, 0, 0, 0x7FFF0000)
    )
    filter_ = ctypes.create_string_buffer(struct.pack("@HP", 4, ctypes.addressof(program)))
    libc = ctypes.CDLL(None)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, filter_, 0, 0):
        sys.exit("no filter")
    loop()


def farewell():
    """Tell what it has done, when no thread but the main one is left."""
    print(json.dumps(result), flush=True)


atexit.register(farewell)
globals()[mode]()
