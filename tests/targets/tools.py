"""Other tools that hook threading: below us, on top of us, and coming and going at the wrong moment."""

import threading

import lab

import threadwatch


class Tool:
    """Counts the threads that start and the names that are given, by the same hooks as ours."""

    def __init__(self):
        self.starts = self.names = 0
        thread = threading.Thread
        set_native_id, name = thread._set_native_id, thread.name
        self._was = {"_set_native_id": set_native_id, "name": name}

        def started(thread):
            self.starts += 1
            return set_native_id(thread)

        def named(thread, value):
            self.names += 1
            name.fset(thread, value)

        thread._set_native_id = started
        thread.name = property(name.fget, named)

    def leave(self):
        """Put back what was there when it came, whatever has been put on top since."""
        for attribute, value in self._was.items():
            setattr(threading.Thread, attribute, value)


crowd = lab.Attendance()


def look(name, *tools, source="published"):
    """A thread more, renamed, which each tool has noticed just once; and all that there are."""
    before = [(tool.starts, tool.names) for tool in tools]
    (who,) = crowd.start(None)
    (thread,) = (t for t in threading.enumerate() if t.native_id == who["tid"])
    thread.name = who["name"] = name
    people.append(who)
    after = [(tool.starts, tool.names) for tool in tools]
    assert after == [(starts + 1, names + 1) for starts, names in before], (name, before, after)
    lab.step(name, lab.process([{**who, "source": source} for who in (lab.me(), *people)]))


people = []
below = Tool()
threadwatch.publish()
look("a tool below", below)
above = Tool()
look("and one above", below, above)
threadwatch.unpublish()
look("unpublished between them", below, above, source="comm")
threadwatch.publish()
look("published on top of them", below, above)
above.leave()
look("the upper one has left", below, source="either")
threadwatch.unpublish()
threadwatch.publish()
look("published anew", below)
below.leave()
look("both have left", source="either")
threadwatch.unpublish()
threadwatch.publish()
look("published at last")
crowd.dismiss()
