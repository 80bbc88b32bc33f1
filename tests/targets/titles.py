"""A program that is called by titles of all kinds, as programs write that use setproctitle.

One process for each kind, forked from the first. Those that say what they are doing in their title change
it all the time: each byte on stdin makes them take the next one. At each, a line of JSON says which PID has
which kind. The kinds are what salt, circus, celery, rq, gunicorn, ray, dask, Airflow and PostgreSQL write.
"""

import json
import os
import sys

import setproctitle

ID = "3f2a9c0e-1111-2222-3333-4444555%05d"
KINDS = {
    "asked": None,  # only asks for its title: that alone joins the arguments by blanks
    "appended": "{before} job {n}",  # salt's way
    "salt": "{before} MultiMinionProcessManager MinionProcessManager Minion._thread_return",
    "state": "{before} - idle since 19:04:{n}",
    "brackets": "{before} [worker {n}]",
    "path": "/srv/shop/bin/ubshop worker queue=mail{n}",
    "relative": "python3 ubapp.py worker {n}",
    "script": "ubapp.py worker {n}",
    "circus": "circusd",
    "celery": "[celeryd: celery@host:MainProcess] -active- (-A orders worker --job {n})",
    "rq": "rq:worker:ab12cd34ef560078{n}: Started {n}",
    "ray": "ray::Trainer.step{n}",
    "dask": "dask worker [tcp://10.0.0.1:{n}]",
    "airflow": "airflow task runner: example print {n} 17",
    "gunicorn": "gunicorn: worker [shop.wsgi:application]",
    "postgres": "ubpostgres: worker {n} GET https://me:SECRET4@example.org/a",
    "bracketed": "[ubshop] worker {n}",
    "uuid": "{id} ubjob",
    "numbered": "ubjob[{n}]: done {n} of 90000",
    "counted": "{n} / 90000 12.5 %: ubjob",
    "url": "https://me:SECRET5@example.org/hook/{n}",
    "long": "/usr/bin/python3 " + "x" * 3000,
    "empty": "",
    "blanks": "   ",
}


def write(kind, n):
    """Become one of a kind."""
    title = KINDS[kind]
    if title is not None:
        setproctitle.setproctitle(title.format(before=BEFORE, n=n, id=ID % n))


BEFORE = setproctitle.getproctitle()
children = {}
for kind in KINDS:
    (there, here), (go, goes) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(goes)
        os.close(there)
        for n in range(12345, 99999):
            write(kind, n)
            os.write(here, b".")
            if not os.read(go, 1):
                os._exit(0)
    os.close(go)
    os.close(here)
    children[kind] = (pid, there, goes)

while True:
    for _, there, _ in children.values():
        os.read(there, 1)
    print(json.dumps({kind: pid for kind, (pid, _, _) in children.items()}), flush=True)
    if not sys.stdin.readline():
        break
    for _, _, goes in children.values():
        os.write(goes, b".")
