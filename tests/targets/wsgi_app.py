"""A WSGI application for real servers: each request uses CPU time; with ``BACKGROUND`` a thread does, too."""

import os
import threading
import time


def burn(seconds):
    """Use CPU time in this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def flush():
    """Work now and then, for as long as the process lives."""
    while True:
        burn(0.005)
        time.sleep(0.05)


if os.environ.get("BACKGROUND"):
    threading.Thread(target=flush, name="metrics-flush", daemon=True).start()


def application(environ, start_response):  # noqa: ARG001  # as PEP 3333 has it
    """Use 50 ms of CPU time, and say which process has."""
    burn(0.05)
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
