"""Programs that close all files, by ``python-daemon`` and by hand: what they do next makes them known again.

``daemonized.py python-daemon`` or ``… by-hand``. Each child of this program is such a daemon.
"""

import contextlib
import os
import sys
import threading

import lab

lab.publish()


def open_some():
    """Open what a daemon opens then: one of them gets the number that was the table's."""
    for _ in range(5):
        os.open(os.devnull, os.O_RDONLY)


def close(tell):
    """Become a daemon in a session of its own, with all files closed but the test's pipes."""
    if sys.argv[1] == "python-daemon":
        import daemon

        kept = [*tell.fds, 1, 2]
        daemon.DaemonContext(
            detach_process=True, files_preserve=kept, stdout=None, stderr=None
        ).open()
    else:
        os.setsid()
        if os.fork():
            os._exit(0)
        for number in range(3, 1024):  # as the recipes have it
            if number not in tell.fds:
                with contextlib.suppress(OSError):
                    os.close(number)
    open_some()


def starts(tell):
    """Start threads, the first of which notices."""
    close(tell)
    inside = lab.Attendance()
    born = inside.start("the first", "the second", None)
    tell(lab.process([lab.me(), *born]))
    inside.dismiss()


def renames(tell):
    """Rename the one thread that there is."""
    close(tell)
    threading.current_thread().name = "a daemon with one thread"
    tell(lab.process([lab.me()]))


def forks(tell):
    """Fork: the copy has a table of its own."""
    close(tell)
    child = lab.fork(lambda tell: tell(lab.process([lab.me()])))
    tell(*child.processes())
    child.release()


def publishes(tell):
    """Ask for it."""
    close(tell)
    sys.modules["threadwatch.publisher.publisher"].publish()
    tell(lab.process([lab.me()]))


def has_threads(tell):
    """Close the files with threads already there, all of which stay known, and their ends are noticed."""
    inside = lab.Attendance()
    if sys.argv[1] == "python-daemon":
        close(tell)
        born = inside.start("older")
    else:
        os.setsid()
        born = inside.start("older", None)
        os.closerange(3, min(tell.fds))
        open_some()
    young = lab.Attendance()
    born += young.start("younger")
    tell(lab.process([lab.me(), *born]))
    inside.dismiss()
    young.dismiss()


for body in (starts, renames, forks, publishes, has_threads):
    child = lab.fork(body)
    lab.step("%s after closing all files" % body.__name__, *child.processes())
    child.release()
lab.step("at the end", lab.process([lab.me()]))
