"""publish() late, twice, undone and done again. Always by hand, never under ``threadwatch run``."""

import _thread
import threading

import lab

ORIGINALS = {
    name: dict(vars(owner))
    for name, owner in (
        ("threading", threading),
        ("Thread", threading.Thread),
        ("_thread", _thread),
    )
}

early = lab.Attendance()
people = early.start("early", None)
lab.step("not published", lab.process([lab.unpublished(who) for who in [lab.me(), *people]]))

import threadwatch  # after the threads, which is the point

threadwatch.publish()
lab.step("threads older than the publisher", lab.process([lab.me(), *people]))
people += early.start("late")
lab.step("and younger ones", lab.process([lab.me(), *people]))

threadwatch.publish()
threadwatch.publish()
assert len(lab.tables()) == 1, lab.tables()
people += early.start("after the second publish")
lab.step("published twice", lab.process([lab.me(), *people]))

threadwatch.unpublish()
thread = threading.Thread(target=threadwatch.publish, name="publishes and ends")
thread.start()
thread.join()
lab.step("published by a thread that has ended", lab.process([lab.me(), *people]))

threadwatch.unpublish()
assert not lab.tables()
for name, owner in (("threading", threading), ("Thread", threading.Thread), ("_thread", _thread)):
    now = dict(vars(owner))
    changed = sorted(
        key
        for key in now.keys() | ORIGINALS[name].keys()
        if key != "_counter" and now.get(key) is not ORIGINALS[name].get(key)
    )
    assert not changed, (name, changed)
lab.step("unpublished", lab.process([lab.unpublished(who) for who in [lab.me(), *people]]))
between = early.start("while unpublished")
threadwatch.unpublish()
lab.step(
    "unpublished twice",
    lab.process([lab.unpublished(who) for who in [lab.me(), *people, *between]]),
)

threadwatch.publish()
people += between
assert len(lab.tables()) == 1, lab.tables()
people += early.start("after all that")
lab.step("published again", lab.process([lab.me(), *people]))


def child(tell):
    """A child that leaves its table to no other process."""
    threadwatch.unpublish()
    assert not lab.tables()
    tell(lab.process([lab.unpublished(lab.me())]))


forked = lab.fork(child)
lab.step("unpublished in a child", lab.process([lab.me(), *people]), *forked.processes())
forked.release()

threadwatch.unpublish()


def silent(tell):
    """A child of a process that has published, but does no more."""
    tell(lab.process([lab.unpublished(lab.me())]))


forked = lab.fork(silent)
lab.step(
    "forked when unpublished",
    lab.process([lab.unpublished(who) for who in [lab.me(), *people]]),
    *forked.processes(),
)
forked.release()
for _ in range(50):
    threadwatch.publish()
    threadwatch.unpublish()
assert not lab.tables()
threadwatch.publish()
early.dismiss()
lab.step("at the end", lab.process([lab.me()]))
