"""The threads that a program gets from :mod:`threading`, and all the ways to name them."""

import re
import sys
import threading
import warnings

import lab

lab.publish()


def plain():
    """The main thread, named threads, threads with Python's own names."""
    lab.step("main", lab.process([lab.me()]))
    crowd = lab.Attendance()
    people = crowd.start("fetch", "store", "metrics-flush", None, None)
    for who in people[3:]:
        pattern = r"Thread-\d+ \(attend\)" if sys.version_info >= (3, 10) else r"Thread-\d+"
        assert re.fullmatch(pattern, who["name"]), who
    lab.step("named and default names", lab.process([lab.me(), *people]))
    crowd.dismiss()
    lab.step("ended", lab.process([lab.me()]))


def renames():
    """Renamed from inside, from outside, by the old setName, and the main thread too."""
    crowd = lab.Attendance()

    def inside():
        threading.current_thread().name = "renamed from inside"
        crowd.say(lab.me())

    def old_way():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            threading.current_thread().setName("renamed by setName")
        crowd.say(lab.me())

    threads = [threading.Thread(target=inside), threading.Thread(target=old_way)]
    for thread in threads:
        thread.start()
    people = crowd.collect(2)
    outside = threading.Thread(target=crowd.attend, name="before")
    outside.start()
    (person,) = crowd.collect(1)
    lab.step("renamed from inside", lab.process([lab.me(), *people, person]))

    outside.name = person["name"] = "renamed from outside"
    lab.step("renamed from outside", lab.process([lab.me(), *people, person]))

    for number in range(1000):
        outside.name = person["name"] = "renamed %d times" % number
    lab.step("renamed often", lab.process([lab.me(), *people, person]))

    threading.main_thread().name = "the main thread"
    lab.step("main renamed", lab.process([lab.me(), *people, person]))
    threading.main_thread().name = "MainThread"

    not_started = threading.Thread(target=crowd.attend, name="one name")
    not_started.name = "another before the start"
    not_started.start()
    people += crowd.collect(1)
    lab.step("renamed before the start", lab.process([lab.me(), *people, person]))

    crowd.dismiss()
    for thread in [*threads, outside, not_started]:
        thread.join()
    outside.name = "renamed after its end"
    lab.step("renamed after the end", lab.process([lab.me()]))


def subclasses():
    """Thread subclasses with ideas of their own."""
    crowd = lab.Attendance()

    class Titled(threading.Thread):
        """Computes its name when asked."""

        @property
        def name(self):
            """Computed."""
            return "titled"

        @name.setter
        def name(self, value):
            pass

        def run(self):
            """Attend."""
            crowd.attend()

    class Broken(threading.Thread):
        """Its name cannot be had, except by threading itself, which uses _name."""

        broken = False

        @property
        def name(self):
            """Not to be had."""
            if self.broken:
                raise RuntimeError("no name today")
            return self._name

        @name.setter
        def name(self, value):
            pass

        def run(self):
            """Attend without asking for the name."""
            crowd.say({"tid": threading.get_native_id(), "name": self._name, "source": "published"})

    class Own(threading.Thread):
        """Overrides what the publisher hooks."""

        def _set_native_id(self):
            super()._set_native_id()

        def run(self):
            """Attend."""
            crowd.attend()

    class Text(str):
        """A str that answers no question."""

        def encode(self, *_):
            raise RuntimeError("not to be encoded")

        def __len__(self):
            raise RuntimeError("not to be measured")

    broken = Broken()
    broken.broken = True
    timer = threading.Timer(0.0, crowd.attend)
    timer.name = "the timer"
    waiting = threading.Timer(lab.DEADLINE, print)
    titled = Titled()
    threads = [titled, broken, Own(name="own hooks"), timer, waiting]
    for thread in threads:
        thread.start()
    people = crowd.collect(4)
    for who in people:
        if who["name"] == "titled":
            who["name"] = titled._name  # what threading itself calls it, in its messages too
    people.append({"tid": waiting.native_id, "name": waiting.name, "source": "published"})
    odd = threading.Thread(target=crowd.attend)
    odd.start()
    people += crowd.collect(1)
    odd.name = Text("a strange str")
    people[-1]["name"] = "a strange str"
    lab.step("subclasses and timers", lab.process([lab.me(), *people]))
    waiting.cancel()
    crowd.dismiss()
    for thread in [*threads, odd]:
        thread.join()
    lab.step("all ended", lab.process([lab.me()]))


plain()
renames()
subclasses()
