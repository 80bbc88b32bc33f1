"""A server with many open files, which publishes before or after it has opened them, and forks."""

import os
import resource
import sys

import lab

import threadwatch

count, order = int(sys.argv[1]), sys.argv[2]
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
if order == "publish-first":
    threadwatch.publish()
files = [os.open(os.devnull, os.O_RDONLY) for _ in range(count)]
crowd = lab.Attendance()
people = crowd.start("acceptor", None)
if order == "files-first":
    lab.step("not yet", lab.process(lab.unpublished(who) for who in (lab.me(), *people)))
    threadwatch.publish()
lab.step("published", lab.process([lab.me(), *people]))


def body(tell):
    """What the child does."""
    inside = lab.Attendance()
    tell(lab.process([lab.me(), *inside.start("in a child")]))
    inside.dismiss()


child = lab.fork(body)
lab.step("forked", lab.process([lab.me(), *people]), *child.processes())
child.release()
