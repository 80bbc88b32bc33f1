"""A server that starts a thread for each request, 20 at a time, for some seconds.

Each thread uses CPU time and says at its end how much that was, by its own clock. Arguments: a word to
be found by, seconds (0: until it is told to stop), requests per second to aim at.
"""

import select
import sys
import threading
import time

import lab
import load_lab

lab.publish()

SECONDS, RATE = float(sys.argv[2]), float(sys.argv[3])
KINDS = (("request-short", 200_000), ("request-medium", 500_000), ("request-long", 800_000))
measured = {name: [] for name, _ in KINDS}
places = threading.Semaphore(20)


def request(name, cpu_ns):
    """Serve one request."""
    while time.thread_time_ns() < cpu_ns:
        pass
    places.release()
    measured[name].append(time.thread_time_ns())


def goes_on():
    """Return whether to serve more requests."""
    if SECONDS:
        return time.monotonic() < begin + SECONDS
    return not select.select([0], [], [], 0)[0]


load_lab.tell("ready")
load_lab.hold()
begin = time.monotonic()
count = 0
while goes_on():
    if count > (time.monotonic() - begin) * RATE:
        time.sleep(0.0005)
        continue
    places.acquire()
    name, cpu_ns = KINDS[count % len(KINDS)]
    threading.Thread(target=request, args=(name, cpu_ns), name=name).start()
    count += 1
took = time.monotonic() - begin
if not SECONDS:
    load_lab.hold()
load_lab.tell(
    "served",
    process_ns=load_lab.quiet(),
    main_ns=time.thread_time_ns(),
    seconds=took,
    threads={name: len(own) for name, own in measured.items()},
    cpu_ns={name: sum(own) for name, own in measured.items()},
)
load_lab.hold()
