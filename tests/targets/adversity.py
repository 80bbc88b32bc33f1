"""A program on a system that denies the publisher what it needs. It must not notice."""

import fcntl
import os
import resource
import socket
import sys
import tempfile
import threading

import lab

SIZE = 1 << 16


def life(name, source):
    """Threads that start, are renamed and end, and a fork: whatever the publisher hooks."""

    def expect(people):
        return [{**who, "source": source} for who in people]

    crowd = lab.Attendance()
    people = crowd.start("worker", None)
    lab.step("%s: threads" % name, lab.process(expect([lab.me(), *people])))
    for thread in threading.enumerate():
        for who in people:
            if thread.native_id == who["tid"]:
                thread.name = who["name"] = "renamed"
    lab.step("%s: renamed" % name, lab.process(expect([lab.me(), *people])))

    def body(tell):
        inside = lab.Attendance()
        born = inside.start("in a child")
        tell(lab.process(expect([lab.me(), *born])))
        inside.dismiss()

    child = lab.fork(body)
    lab.step("%s: fork" % name, lab.process(expect([lab.me(), *people])), *child.processes())
    child.release()
    crowd.dismiss()
    lab.step("%s: ended" % name, lab.process(expect([lab.me()])))


class Own:
    """The application's descriptors, where the table's was: no other code may touch them."""

    def __init__(self, kind, numbers):
        self.kind = kind
        self.numbers = numbers
        if kind == "socket":
            ends = socket.socketpair()
            self.other = ends[1].detach()
            mine = ends[0].detach()
        elif kind == "pipe":
            self.other, mine = os.pipe()
        elif kind == "memfd":
            self.other = mine = os.memfd_create("the application's own")
        else:
            self.other, name = tempfile.mkstemp()
            mine = os.open(name, os.O_RDWR)
            os.unlink(name)
        if kind in ("memfd", "file"):
            os.pwrite(mine, b"\x55" * SIZE, 0)
        else:
            os.set_blocking(self.other, False)
        self.other = fcntl.fcntl(self.other, fcntl.F_DUPFD, 1000)
        mine = fcntl.fcntl(mine, fcntl.F_DUPFD, 1000)
        for number in numbers:
            os.dup2(mine, number)
        self.was = [self.stat(number) for number in numbers]

    @staticmethod
    def stat(number):
        """What it is, and what only a write changes."""
        stat = os.fstat(number)
        return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns

    def check(self, when):
        """Still open, still the same, and nothing was written."""
        assert [self.stat(number) for number in self.numbers] == self.was, (self.kind, when)
        if self.kind in ("memfd", "file"):
            assert os.pread(self.other, 2 * SIZE, 0) == b"\x55" * SIZE, (self.kind, when)
            assert os.lseek(self.numbers[0], 0, os.SEEK_CUR) == 0
        else:
            try:
                data = os.read(self.other, 1)
            except BlockingIOError:
                pass
            else:
                raise AssertionError((self.kind, when, data))


def closed():
    """All files closed, and the numbers taken by files of the application."""
    lab.publish()
    for kind in ("file", "memfd", "pipe", "socket"):
        crowd = lab.Attendance()
        people = crowd.start("older than the files", None)
        numbers = lab.tables()
        assert len(numbers) == 1, numbers
        expected = [lab.me(), *people]
        lab.step("%s: before" % kind, lab.process(expected))
        os.closerange(3, 4096)
        lab.step("%s: closed" % kind, lab.process(lab.unpublished(who) for who in expected))
        own = Own(kind, numbers or [3])
        crowd.dismiss()
        own.check("threads have ended")
        threading.current_thread().name = "renamed in between"
        own.check("renamed")
        crowd = lab.Attendance()
        people = crowd.start("younger than the files")
        own.check("a thread has started")

        def body(tell):
            own.check("in a child")
            inside = lab.Attendance()
            born = inside.start("in a child")
            own.check("a thread of the child has started")
            tell(lab.process([lab.me(), *born]))
            inside.dismiss()
            own.check("a thread of the child has ended")

        child = lab.fork(body)
        people.append(lab.me())
        lab.step(
            "%s: taken" % kind,
            lab.process(people),
            *child.processes(),
        )
        child.release()
        crowd.dismiss()
        own.check("the younger thread has ended")
        threading.current_thread().name = "MainThread"
    if "threadwatch" in sys.modules:
        for kind in ("file", "memfd"):
            numbers = lab.tables()
            os.closerange(3, 4096)
            own = Own(kind, numbers or [3])
            sys.modules["threadwatch"].unpublish()
            own.check("unpublished")
            sys.modules["threadwatch"].publish()
            own.check("published again")
    lab.step("at the end", lab.process([lab.me()]))


def nofile():
    """No descriptor is left, so no table can be made."""
    import threadwatch

    if sys.argv[2:] == ["imported"]:
        import threadwatch.publisher.publisher
    crowd = lab.Attendance()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(0)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, hard))
    threadwatch.publish()
    people = [lab.me(), *crowd.start("in need", None)]
    lab.step("no descriptors", lab.process(lab.unpublished(who) for who in people))
    threadwatch.publish()
    lab.step("still none", lab.process(lab.unpublished(who) for who in people))
    crowd.dismiss()
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    people = [{**who, "source": "either"} for who in (lab.me(), *crowd.start("later", None))]
    lab.step("descriptors again", lab.process(people))
    threadwatch.unpublish()
    threadwatch.publish()
    lab.step("published anew", lab.process([{**who, "source": "published"} for who in people]))
    crowd.dismiss()


def denied(source):
    """The test has denied something before: a system call, /proc, another user's eyes."""
    lab.publish()
    life("denied", source)


def quiet():
    """Denied, and asked to say why: in one process, which starts threads all the same."""
    lab.publish()
    crowd = lab.Attendance()
    people = [lab.me(), *crowd.start("one", "two", None)]
    lab.step("quiet", lab.process(lab.unpublished(who) for who in people))
    lab.publish()
    crowd.dismiss()


if sys.argv[1] == "denied":
    denied(sys.argv[2])
else:
    {"closed": closed, "nofile": nofile, "quiet": quiet}[sys.argv[1]]()
