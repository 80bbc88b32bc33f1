"""A program with thousands of open files, which forks: its copies' tables have low numbers all the same."""

import os
import resource

import lab

COUNT = 4_500
"""More than the 4,096 lowest descriptors that a daemon looks at first."""

lab.publish()
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
files = [os.open(os.devnull, os.O_RDONLY) for _ in range(COUNT)]


def child(tell):
    """A copy that starts a thread."""
    inside = lab.Attendance()
    born = inside.start("in a child")
    (table,) = lab.tables()
    assert table < 64, table
    tell(lab.process([lab.me(), *born]))
    inside.dismiss()


forked = lab.fork(child)
lab.step("fork with many files open", lab.process([lab.me()]), *forked.processes())
forked.release()
