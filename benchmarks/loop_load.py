"""A program with a loop of asyncio that is watched, or without one. By any Python from 3.9 on.

``loop_load MARK ticks PERIOD WORK TASKS``: a task that wakes every PERIOD seconds and works for WORK seconds
of CPU, besides TASKS tasks that wait. ``loop_load MARK plain PERIOD WORK 0``: a thread that does the same
without a loop. ``loop_load MARK serve``: a server that answers lines. Once it runs, it prints one line of
JSON, ``{"pid": PID, "port": PORT}``; it lives until its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time


def work(seconds: float) -> None:
    """Use this much CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def say(port: int = 0) -> None:
    """Say that the program runs."""
    print(json.dumps({"pid": os.getpid(), "port": port}), flush=True)


async def wait(event: asyncio.Event) -> None:
    """Wait for an event."""
    await event.wait()


async def ticks(period: float, seconds: float, count: int) -> None:
    """Wake and work, again and again, besides tasks that wait."""
    event = asyncio.Event()
    waiting = [asyncio.ensure_future(wait(event)) for _ in range(count)]
    await asyncio.sleep(0)
    say()
    while len(waiting) == count:
        work(seconds)
        await asyncio.sleep(period)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each line of a connection, as a small web server would a request."""
    while line := await reader.readline():
        body = json.dumps({"asked": line.decode(), "numbers": list(range(50))})
        writer.write(f"{len(body)}\n{body}\n".encode())
        await writer.drain()
    writer.close()


async def serve() -> None:
    """Serve."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    say(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def plain(period: float, seconds: float) -> None:
    """Wake and work without a loop."""
    say()
    while True:
        work(seconds)
        time.sleep(period)


def main() -> None:
    """Run what the arguments say."""
    threading.Thread(target=lambda: os._exit(bool(sys.stdin.read())), daemon=True).start()
    mode, *numbers = sys.argv[2:]
    if mode == "serve":
        asyncio.run(serve())
    elif mode == "ticks":
        asyncio.run(ticks(float(numbers[0]), float(numbers[1]), int(numbers[2])))
    else:
        plain(float(numbers[0]), float(numbers[1]))


if __name__ == "__main__":
    main()
