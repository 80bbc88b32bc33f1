"""Threads that executors and event loops start."""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import lab

lab.publish()
logging.getLogger("asyncio").setLevel(logging.ERROR)  # its debug mode reports slow machines

crowd = lab.Attendance()


def pools():
    """ThreadPoolExecutor with its own names and with a prefix."""
    with ThreadPoolExecutor(3) as plain, ThreadPoolExecutor(2, "resize") as prefixed:
        for pool, count in ((plain, 3), (prefixed, 2)):
            for _ in range(count):
                pool.submit(crowd.attend)
        people = crowd.collect(5)
        assert sorted(who["name"] for who in people)[3:] == ["resize_0", "resize_1"], people
        lab.step("busy pools", lab.process([lab.me(), *people]))
        crowd.dismiss()
        lab.step("idle pools", lab.process([lab.me(), *people]))
    lab.step("pools shut down", lab.process([lab.me()]))


async def loop():
    """asyncio's default executor and to_thread."""
    running = asyncio.get_running_loop()
    futures = [
        running.run_in_executor(None, crowd.attend),
        asyncio.ensure_future(asyncio.to_thread(crowd.attend)),
    ]
    await asyncio.sleep(0)
    people = crowd.collect(2)
    assert sorted(who["name"] for who in people) == ["asyncio_0", "asyncio_1"], people
    lab.step("asyncio", lab.process([lab.me(), *people]))
    crowd.dismiss()
    await asyncio.gather(*futures)


pools()
asyncio.run(loop())
assert threading.active_count() == 1
lab.step("loop closed", lab.process([lab.me()]))
