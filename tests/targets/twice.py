"""More than one copy of threading: ``twice.py KIND``.

``unloaded``: imported, removed from ``sys.modules``, and imported again, before and after
publishing. ``looked-for``: a program asks whether there is such a module before it is imported.
``old-finder``: a finder without ``find_spec`` is asked before the standard library's. ``lazy``:
executed long after it has been found.
"""

import contextlib
import importlib.util
import sys

import lab


def unloaded():
    """Threads of three copies, each with a name that was given through its own copy."""
    copies = []
    attendances = []
    people = []
    for number in range(3):
        import threading

        copies.append(threading)
        attendances.append(lab.Attendance())
        people += attendances[-1].start("of copy %d" % number)
        if number == 0:
            lab.publish()
        del sys.modules["threading"]
        sys.modules.pop("queue", None)
    import threading

    assert len({id(copy) for copy in (threading, *copies)}) == 4
    main = {**lab.me(), "name": "MainThread"}
    lab.step("four copies", lab.process([main, *people]))
    threading.main_thread().name = main["name"] = "renamed through the last copy"
    lab.step("the main thread renamed", lab.process([main, *people]))
    with contextlib.ExitStack() as stack:
        for number, copy in enumerate(copies):
            for thread in copy.enumerate():
                if thread.name == "of copy %d" % number:
                    thread.name = people[number]["name"] = "renamed %d" % number
        lab.step("threads renamed", lab.process([main, *people]))

        def child(tell):
            tell(lab.process([lab.me()]))

        forked = lab.fork(child)
        stack.callback(forked.release)
        lab.step("fork", lab.process([main, *people]), *forked.processes())
    attendances[1].dismiss()
    del people[1]
    lab.step("one ended", lab.process([main, *people]))
    for attendance in attendances:
        attendance.dismiss()


def _life():
    crowd = lab.Attendance()
    people = crowd.start("a thread", None)
    lab.step("threads", lab.process([lab.me(), *people]))
    crowd.dismiss()


def looked_for():
    """Asked for by ``find_spec``, whose answer is as it would be without us."""
    lab.publish()
    if "threading" not in sys.modules:
        spec = importlib.util.find_spec("threading")
        assert spec.loader.get_code("threading").co_filename == spec.origin
        assert spec.loader.is_package("threading") is False
    _life()
    import threading

    assert type(threading.__loader__).__name__ == "SourceFileLoader", threading.__loader__
    assert threading.__spec__.loader is threading.__loader__


def old_finder():
    """A finder of the old kind: nothing that it does not do without us."""

    class Old:
        """As wrapt's was before 1.14."""

        @staticmethod
        def find_module(_name, _path=None):
            return None

    lab.publish()
    sys.meta_path.insert(0, Old())
    sys.meta_path.insert(2, Old())
    _life()


def lazy():
    """Executed by the first who asks for something in it. From 3.13 on that needs threading itself."""
    lab.publish()
    if "threading" not in sys.modules:
        spec = importlib.util.find_spec("threading")
        spec.loader = importlib.util.LazyLoader(spec.loader)
        module = importlib.util.module_from_spec(spec)
        sys.modules["threading"] = module
        spec.loader.exec_module(module)
    _life()


{"unloaded": unloaded, "looked-for": looked_for, "old-finder": old_finder, "lazy": lazy}[
    sys.argv[1]
]()
