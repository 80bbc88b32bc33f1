"""Names that break what takes names for granted."""

import threading

import lab

NAMES = (
    "",
    " ",
    ")",
    "a) S 1 (b",
    "Thread-1 (work)",
    "\"double\" and 'single'",
    "back\\slash\\n",
    "new\nline\r\n",
    "nul\0inside",
    "\0",
    "tab\tand\x1b[31mred\x1b[0m\x07",
    "{name} %s %(x)d {0} ${HOME} `id`",
    "😀 emoji 👩‍👩‍👧‍👦",
    "\u202eright to left\u202c שלום",
    "e\u0301 combining",
    "\ufeffbyte order mark",
    "\ud800 high and \udcff low surrogate",
    "\U0010ffff and \x7f and \x80",
    "MainThread",
    "(other)",
    "(unattributed)",
    "/memfd:threadwatch (deleted)",
    "../../../etc/passwd",
    "x" * 191 + "é",
    "x" * 192,
    "x" * 193,
    "x" * 1000,
    "é" * 1000,
    "x" + "é" * 1000,
    "😀" * 1000,
    "xyz" + "😀" * 1000,
    "\udc80" * 1000,
)

lab.publish()
crowd = lab.Attendance()
people = crowd.start(*NAMES)
lab.step("given at the start", lab.process([lab.me(), *people]))
crowd.dismiss()

thread = threading.Thread(target=crowd.attend, name="first")
thread.start()
(person,) = crowd.collect(1)
threads = [thread]
people = [person]
for _ in NAMES[1:]:
    thread = threading.Thread(target=crowd.attend)
    thread.start()
    people += crowd.collect(1)
    threads.append(thread)
for thread, person, name in zip(threads, people, NAMES):
    thread.name = person["name"] = name
    assert thread.name == name
lab.step("given later", lab.process([lab.me(), *people]))
crowd.dismiss()
for thread in threads:
    thread.join()
lab.step("ended", lab.process([lab.me()]))
