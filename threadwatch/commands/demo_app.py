"""Runs a small shop with every kind of thread, for ``threadwatch demo``. Imports nothing of threadwatch.

Uses the standard library only. The name of each thread says what the thread does.
"""

import asyncio
import ctypes
import multiprocessing
import os
import queue
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor


def work(seconds: float) -> None:
    """Use about this much CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(500))


def price_engine() -> None:
    """Keep a CPU busy for about a quarter of the time."""
    while True:
        work(0.05)
        time.sleep(0.15)


def sleeper() -> None:
    """Sleep, again and again."""
    while True:
        time.sleep(1)


def lock_holder(lock: threading.Lock) -> None:
    """Hold the stock's lock most of the time."""
    while True:
        with lock:
            time.sleep(0.8)
        time.sleep(0.2)


def lock_waiter(lock: threading.Lock) -> None:
    """Take the stock's lock again and again."""
    while True:
        with lock:
            work(0.002)
        time.sleep(0.05)


def order_consumer(orders: "queue.Queue[int]") -> None:
    """Wait for orders."""
    while True:
        orders.get()
        work(0.003)


def handle_request() -> None:
    """Handle one request, in a thread of a pool."""
    work(0.01)
    time.sleep(random.random() / 20)  # noqa: S311 - for load, not for secrets


def recommendations() -> None:
    """Work as a worker process does, until the parent process has ended."""
    parent = os.getppid()
    while os.getppid() == parent:
        work(0.02)
        time.sleep(0.2)


async def events() -> None:
    """Run an event loop that also uses its own thread pool."""
    while True:
        await asyncio.sleep(0.1)
        await asyncio.to_thread(work, 0.005)


def native_thread() -> None:
    """Start a thread that Python does not know, as C libraries do."""
    libc = ctypes.CDLL(None)
    thread = ctypes.c_ulong()
    sleep = ctypes.cast(libc.pause, ctypes.c_void_p)
    if libc.pthread_create(ctypes.byref(thread), None, sleep, None) == 0:
        libc.pthread_setname_np(thread, b"native-io")


def tick(interval: float) -> None:
    """Start a timer that starts the next one: a new thread each time."""
    work(0.001)
    timer = threading.Timer(interval, tick, (interval,))
    timer.daemon = True
    timer.start()


def start(name: str, target: object, *arguments: object) -> None:
    """Start a daemon thread."""
    threading.Thread(name=name, target=target, args=arguments, daemon=True).start()  # type: ignore[arg-type]  # any callable


def main() -> None:
    """Run until killed, or until the process whose PID is given as argument has ended."""
    parent = int(sys.argv[1]) if sys.argv[1:] else None
    context = multiprocessing.get_context("spawn")
    for number in (1, 2):
        context.Process(target=recommendations, name=f"recommend-{number}", daemon=True).start()
    lock = threading.Lock()
    orders: queue.Queue[int] = queue.Queue()
    start("price-engine", price_engine)
    start("housekeeping", sleeper)
    start("stock-writer", lock_holder, lock)
    start("stock-reader", lock_waiter, lock)
    start("order-consumer", order_consumer, orders)
    start("event-loop", lambda: asyncio.run(events()))
    threading.Thread(target=sleeper, daemon=True).start()
    native_thread()
    tick(0.5)
    pool = ThreadPoolExecutor(4, thread_name_prefix="http")
    while parent in (None, os.getppid()):
        orders.put(1)
        list(pool.map(lambda _: handle_request(), range(4)))


if __name__ == "__main__":
    main()
