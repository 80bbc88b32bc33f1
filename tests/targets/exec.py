"""Exec: the process keeps its PID and start time, and nothing else."""

import os
import sys
import threading

import lab

PYTHON = [sys.executable, "-X", "dev", "-W", "error"]


def become(*command):
    """Replace this process, but by a thread that is not the main one."""
    thread = threading.Thread(target=os.execv, args=(command[0], command), name="the last word")
    thread.start()
    thread.join()


if sys.argv[1:] == []:
    lab.publish()
    crowd = lab.Attendance()
    lab.step("before", lab.process([lab.me(), *crowd.start("before exec", None)]))
    os.execv(sys.executable, [*PYTHON, __file__, "publishes"])
elif sys.argv[1:] == ["publishes"]:
    lab.publish()
    crowd = lab.Attendance()
    threading.main_thread().name = "main of another program"
    lab.step(
        "a program that publishes", lab.process([lab.me(), *crowd.start("after exec", None, None)])
    )
    become(sys.executable, "-E", *PYTHON[1:], __file__, "isolated")
elif sys.argv[1:] == ["isolated"]:
    crowd = lab.Attendance()
    people = [lab.me(), *crowd.start("nobody sees", None)]
    lab.step("a program that does not", lab.process(lab.unpublished(who) for who in people))
    lab.announce("exec: cat", lab.process([lab.nameless(os.getpid())], comm="cat"))
    become("/bin/cat")
