"""A subinterpreter that is made long after the process has begun to publish, with a thread that works.

Run it by ``threadwatch run``: each interpreter publishes then. CPython 3.12 and older call the module
``_xxsubinterpreters``, and give its interpreters the main one's GIL.
"""

import os
import sys

import lab

try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

LATE = """
import os, threading, time

def work():
    os.write({tell}, b"%d\\n" % threading.get_native_id())
    while True:
        sum(range(100_000))
        time.sleep(0.01)

threading.Thread(target=work, name="of a late interpreter").start()
"""

lab.step("alone", lab.process([lab.me()]))
told, tell = os.pipe()
code = LATE.format(tell=tell)
options = {} if sys.version_info >= (3, 12) else {"isolated": False}  # threads are forbidden there
interpreter = interpreters.create(**options)
run = getattr(interpreters, "exec", None) or interpreters.run_string
run(interpreter, code)
late = {"tid": int(os.read(told, 20)), "name": "of a late interpreter", "source": "published"}
lab.step("with another interpreter", lab.process([lab.me(), late]))
os._exit(0)
