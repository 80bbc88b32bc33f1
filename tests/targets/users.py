"""A service that begins as root and becomes another user: at once, later, in a worker, with threads."""

import os
import sys

import lab

import threadwatch  # while the files can still be read
import threadwatch.publisher.publisher

OTHER = 65534


def become_another():
    """Give up root for good: glibc has all threads do it."""
    os.setgroups([])
    os.setgid(OTHER)
    os.setuid(OTHER)


def at_first(crowd):
    """Published as root, and seen so, before it becomes another user; then published anew as that one."""
    threadwatch.publish()
    people = crowd.start("older", None)
    lab.step("as root", lab.process([lab.me(), *people]))
    become_another()
    lab.step("as another", lab.process([lab.me(), *people]))
    people += crowd.start("younger")
    lab.step("one thread more", lab.process([lab.me(), *people]))
    threadwatch.unpublish()
    nobody = [lab.unpublished(who) for who in (lab.me(), *people)]
    lab.step("unpublished", lab.process(nobody))
    threadwatch.publish()
    lab.step("published by another", lab.process([lab.me(), *people]))


def afterwards(crowd):
    """Seen as root without a table; published by the user that it has become."""
    people = crowd.start("older", None)
    lab.step("as root", lab.process(lab.unpublished(who) for who in (lab.me(), *people)))
    become_another()
    threadwatch.publish()
    lab.step("published by another", lab.process([lab.me(), *people]))


def unseen(_crowd):
    """Published as root, and another user before the first poll."""
    threadwatch.publish()
    become_another()
    crowd = lab.Attendance()
    lab.step("as another", lab.process([lab.me(), *crowd.start("younger")]))


def worker(_crowd):
    """The parent stays root, and a worker becomes another user after the fork."""
    threadwatch.publish()

    def body(tell):
        become_another()
        inside = lab.Attendance()
        tell(lab.process([lab.me(), *inside.start("in a worker")]))
        inside.dismiss()

    child = lab.fork(body)
    lab.step("a worker", lab.process([lab.me()]), *child.processes())
    child.release()


def effective(crowd):
    """Only the effective user has changed, for a while, when it publishes."""
    os.seteuid(OTHER)
    threadwatch.publish()
    lab.step("for a while", lab.process([lab.me(), *crowd.start("while another")]))


crowd = lab.Attendance()
for scene in (at_first, afterwards, unseen, worker, effective):
    if sys.argv[1] == scene.__name__:
        scene(crowd)
