"""Runs threads of short functions beside a loop: ``beside.py KIND``, asyncio or trio. Prints its PID.

The functions are the same in all threads, and let others run. So the frames of one thread soon lie where
those of another one have ended.
"""

import asyncio
import os
import sys
import threading
import time

THREADS = 6


def inner(depth):
    """Call itself so often, and let another thread run."""
    if depth:
        inner(depth - 1)
    else:
        time.sleep(0)


def short():
    """Run as the application does, for a moment."""
    inner(2)


def busy():
    """Run in a thread without a loop."""
    while True:
        short()


async def work(sleep):
    """Run on the loop."""
    while True:
        short()
        await sleep(0)


async def both():
    """Run two tasks."""
    await asyncio.gather(work(asyncio.sleep), work(asyncio.sleep))


def main():
    """Run the loop."""
    for _ in range(THREADS):
        threading.Thread(target=busy, daemon=True).start()
    print(os.getpid(), flush=True)
    if sys.argv[1] == "trio":
        import trio

        trio.run(work, trio.sleep)
    else:
        asyncio.run(both())


if __name__ == "__main__":
    main()
