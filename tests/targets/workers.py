"""multiprocessing and ProcessPoolExecutor, by each start method that is an argument.

The workers answer over the pool's own pipes. What must hold in them: MainThread, and the feeder of
a queue; in the parent: the threads that handle the pool.
"""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver

import lab

lab.publish()


kept = {}


def enter(barrier):
    """A worker's start: keep the barrier."""
    kept["barrier"] = barrier


def answer(_):
    """What a pool's worker says of itself, once all workers are there."""
    kept["barrier"].wait(lab.DEADLINE)
    return lab.process(lab.everyone())


def nothing():
    """A task."""


def feed(queue, leave):
    """A process that puts its report into a queue, which gives it a feeder thread."""
    queue.put(None)
    queue.put(lab.process(lab.everyone()))
    leave.wait(lab.DEADLINE)


def server_process():
    """The fork server, as it should look: under ``threadwatch run`` it publishes like any other."""
    pid = forkserver._forkserver._forkserver_pid
    source = "published" if sys.argv[2:] == ["run"] else "either"
    return lab.process([{"tid": pid, "name": "MainThread", "source": source}], pid=pid)


def main(method):
    """All the ways to get workers."""
    context = multiprocessing.get_context(method)
    extra = []
    with context.Pool(2, enter, (context.Barrier(2),)) as pool:
        workers = pool.map(answer, range(2), chunksize=1)
        if method == "forkserver":
            extra = [server_process()]
        lab.step("Pool", lab.process(lab.everyone()), *workers, *extra)

    with context.Pool(1, enter, (context.Barrier(1),), maxtasksperchild=2) as pool:
        first = pool.map(answer, [0])
        pool.apply(nothing)
        old = first[0]["pid"]
        lab.wait_for(lambda: [w for w in pool._pool if w.pid != old], "another worker")
        second = pool.map(answer, [0])
        lab.step("Pool, worker replaced", lab.process(lab.everyone()), *second)

    with ProcessPoolExecutor(2, context, enter, (context.Barrier(2),)) as pool:
        workers = list(pool.map(answer, range(2)))
        lab.step("ProcessPoolExecutor", lab.process(lab.everyone()), *workers)

    queue, leave = context.Queue(), context.Event()
    worker = context.Process(target=feed, args=(queue, leave), name="the feeder")
    worker.start()
    queue.get(timeout=lab.DEADLINE)
    report = queue.get(timeout=lab.DEADLINE)
    assert len(report["threads"]) == 2, report
    lab.step("Process with a queue", lab.process(lab.everyone()), report)
    leave.set()
    worker.join()
    assert worker.exitcode == 0


if __name__ == "__main__":
    main(sys.argv[1])
