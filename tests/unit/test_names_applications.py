"""The names of applications, and which processes are Python, or another's workers."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.testbed import Interpreter
from threadwatch.labels.applications import without_arguments
from threadwatch.labels.discretion import without_secrets
from threadwatch.labels.groups import application_name, is_multiprocessing_child, is_python
from threadwatch.procfs.cmdline import parse_cmdline

PYTHON = "/usr/bin/python3.12"
LOADER = "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"


def name(*cmdline: str, exe: str | None = PYTHON, comm: str = "comm") -> str:
    """Return the application of a process with these arguments."""
    return application_name(exe=exe, cmdline=cmdline, comm=comm)


@pytest.mark.parametrize(
    ("command", "application"),
    [
        # scripts
        ("python3 /srv/shop/billing.py", "billing"),
        ("python3 billing.py --app other", "billing"),
        ("python3 /srv/shop/billing.pyc", "billing"),
        ("python3 /srv/shop.pyz serve", "shop"),
        ("python3 /srv/shop", "shop"),
        ("python3 /srv/shop/", "shop"),
        ("python3 .", "__main__"),
        ("python3 __main__.py", "__main__"),
        ("python3 ./__main__.py", "__main__"),
        ("python3 /srv/shop/__main__.py", "shop"),
        ("python3 /opt/venv/bin/shopctl sync", "shopctl"),
        ("/opt/venv/bin/python /opt/venv/bin/pytest -x", "pytest"),
        ("python3 -", "python -"),
        ("python3 /dev/fd/63", "python -"),
        ("python3 /dev/stdin", "python -"),
        ("python3", "python"),
        ("python3.13t -i", "python"),
        ("pypy3 billing.py", "billing"),
        # the interpreter's own options
        ("python3 -u billing.py", "billing"),
        ("python3 -OO -I -u -W ignore -X dev billing.py", "billing"),
        ("python3 -Wignore -Xdev -Xfaulthandler billing.py", "billing"),
        ("python3 -uW ignore -bBX dev billing.py", "billing"),
        ("python3 --check-hash-based-pycs always billing.py", "billing"),
        ("python3 -- billing.py", "billing"),
        ("python3 -u", "python"),
        ("python3 -W", "python"),
        # modules and code
        ("python3 -m shop.tasks --all", "shop.tasks"),
        ("python3 -mshop.tasks", "shop.tasks"),
        ("python3 -um shop.tasks", "shop.tasks"),
        ("python3 -Wignore -m shop.__main__", "shop"),
        ("python3 -m http.server 8000", "http.server"),
        ("python3 -m ipykernel_launcher -f kernel.json", "ipykernel_launcher"),
        ("python3 -m", "python"),
        ("python3 -c 'import shop' billing.py", "python -c"),
        ("python3 -cpass", "python -c"),
        ("python3 -uc pass", "python -c"),
        ("python3 -c", "python -c"),
        # programs that run another
        ("python3 -m pdb billing.py", "billing"),
        ("python3 -m pdb -c continue -m shop.tasks", "shop.tasks"),
        ("python3 -m cProfile -o out.prof -s cumtime billing.py", "billing"),
        ("python3 -m profile -m shop.tasks", "shop.tasks"),
        ("python3 -m coverage run --source shop,lib -p --branch billing.py", "billing"),
        ("python3 /opt/venv/bin/coverage run -m pytest", "pytest"),
        ("python3 -m coverage report billing.py", "coverage"),
        ("python3 -m debugpy --listen 0.0.0.0:5678 --wait-for-client -m uvicorn shop:app", "shop"),
        ("python3 /srv/x/debugpy/__main__.py --connect 127.0.0.1:5 billing.py", "billing"),
        ("python3 -m threadwatch run -- gunicorn shop:app", "shop"),
        ("python3 -m threadwatch run -- python3 -u -m shop.tasks", "shop.tasks"),
        ("python3 /usr/bin/threadwatch run billing.py", "billing"),
        ("python3 -m threadwatch serve --config.file x", "threadwatch"),
        ("python3 -m threadwatch run --", "threadwatch"),
        ("python3 -m coverage run -m cProfile -m pdb billing.py", "billing"),
        # a user's own files that are called like a tool
        ("python3 /srv/shop/flask.py --app other", "flask"),
        ("python3 coverage.py run x.py", "coverage"),
        # servers
        ("gunicorn shop:app", "shop"),
        ("python3 /opt/venv/bin/gunicorn -w 4 -b 0.0.0.0:8000 shop.wsgi:application", "shop"),
        ("python3 gunicorn --workers=4 --worker-class gthread shop.wsgi", "shop"),
        ("python3 gunicorn -kgthread -w4 --preload shop.wsgi", "shop"),
        ("python3 gunicorn -D --reload -c python:other.conf shop.wsgi", "shop"),
        ("python3 gunicorn --no-sendfile shop.wsgi", "shop"),
        ("python3 gunicorn --flag-of-tomorrow shop:app", "shop"),
        ("python3 gunicorn -b localhost:8000 shop.web:create_app('production')", "shop.web"),
        ("python3 gunicorn --name web shop:app", "web"),
        ("python3 gunicorn -n web-1 shop:app", "web-1"),
        ("python3 gunicorn -c gunicorn.conf.py", "gunicorn"),
        ("python3 gunicorn", "gunicorn"),
        ("python3 /usr/bin/gunicorn3 shop:app", "shop"),
        ("python3 -m gunicorn shop:app", "shop"),
        ("python3 -m gunicorn.app.wsgiapp shop:app", "shop"),
        ("python3 -m uvicorn --host 0.0.0.0 --port 80 shop.main:app --reload", "shop"),
        ("python3 uvicorn --factory app.main:create", "app"),
        ("python3 uvicorn main:app", "main"),
        ("python3 uvicorn company.shop.asgi:app", "company.shop"),
        ("python3 hypercorn -b :80 shop:app", "shop"),
        ("python3 daphne -p 80 shop.asgi:application", "shop"),
        ("python3 granian --interface asgi --workers 2 shop:app", "shop"),
        ("python3 granian --process-name web shop:app", "web"),
        ("python3 waitress-serve --listen=*:8080 --call shop:create_app", "shop"),
        ("python3 -m waitress --port 80 shop:app", "shop"),
        ("python3 dramatiq shop.tasks", "shop.tasks"),
        # the rest of the launchers
        ("python3 celery -A shop worker -l info", "shop"),
        ("python3 celery --app=shop.celery:app beat", "shop"),
        ("python3 celery --app shop.tasks.celery_app worker", "shop.tasks"),
        ("python3 celery -Ashop worker", "shop"),
        ("python3 -m celery worker -A shop", "shop"),
        ("python3 celery worker", "celery"),
        ("python3 celery -A", "celery"),
        ("python3 flask --app shop run", "shop"),
        ("python3 flask -A src/shop.py run", "shop"),
        ("python3 -m flask --app shop:create_app run", "shop"),
        ("python3 flask run", "flask"),
        ("python3 manage.py runserver", "manage"),
        ("python3 ./manage.py runserver", "manage"),
        ("python3 ../manage.py runserver", "manage"),
        ("python3 /srv/shop/manage.py runserver 0:80", "shop"),
        ("python3 shop/manage.py runserver", "shop"),
        ("python3 django-admin runserver", "django-admin"),
        ("python3 django-admin runserver --settings shop.settings", "shop"),
        ("python3 -m django runserver --settings=company.shop.settings.dev", "company.shop"),
        ("python3 fastapi run --port 80 app/main.py", "app"),
        ("python3 fastapi run", "fastapi"),
        ("python3 streamlit run /srv/shop/app.py", "shop"),
    ],
)
def test_the_application_and_not_the_interpreter(command: str, application: str) -> None:
    """A process is called what a person calls its application."""
    assert name(*shlex.split(command)) == application


@pytest.mark.parametrize(
    ("title", "application"),
    [
        ("gunicorn: master [shop:app]", "shop"),
        ("gunicorn: worker [shop.wsgi:application]", "shop"),
        ("gunicorn: worker [web-1]", "web-1"),
        ("gunicorn: dirty-worker [shop:app]", "shop"),
        ("gunicorn: dirty-arbiter", "gunicorn"),
        ("[celeryd: celery@host:MainProcess] -active- (-A shop worker -l info -c 1)", "shop"),
        ("[celeryd: celery@host:MainProcess] -active- (worker --app=shop.celery)", "shop"),
        ("[celeryd: celery@host:MainProcess] -active- (worker)", "celery"),
        ("[celery beat] -A shop beat -s /var/lib/beat", "shop"),
        ("granian asgi 127.0.0.1:8000 shop:app", "shop"),
        ("granian asgi 127.0.0.1:8000 shop:app worker-1", "shop"),
        ("shop: idle", "shop"),
        ("shop worker 3", "shop"),
        ("[shop] worker", "shop"),
        ("python3 /srv/shop/billing.py", "billing"),
        # a command line, joined by blanks: asking for the title leaves that, and many append to it
        ("/usr/bin/python3 /srv/shop/billing.py --db postgres://me:secret@db/x", "billing"),
        ("/srv/v/bin/python -m shop.tasks --db postgres://u:p@h/db", "shop.tasks"),
        ("/srv/v/bin/python3.12 -c import shop; shop.run('/x')", "python -c"),
        ("/usr/bin/python3 /usr/bin/salt-minion KeepAlive MinionProcessManager", "salt-minion"),
        ("/usr/bin/python3 /opt/v/bin/gunicorn -w 4 shop.wsgi:application", "shop"),
        ("/opt/my shop/bin/python3 -u /srv/billing.py worker", "billing"),
        ("/opt/my shop/bin/python3.12", "python"),
        ("/srv/shop/bin/ubshop run /usr/bin/python3", "ubshop"),
        ("./ubshop worker queue=mail", "ubshop"),
        ("billing.py worker 3", "billing"),
        ("/lib64/ld-linux-x86-64.so.2 /usr/bin/python3.12 /srv/billing.py idle", "billing"),
        # numbers that change
        ("3f2a9c0e-1111-2222-3333-444455556666 shop", "shop"),
        ("3f2a9c0e11112222 shop", "shop"),
        ("1 / 20 5.00 %: shop", "shop"),
        ("shop[4711]: idle", "shop"),
        ("shop-48213: idle", "shop"),
        ("shop-3f2a9c0e: idle", "shop"),
        ("web-1: idle", "web-1"),
        ("shop2024 idle", "shop2024"),
        ("cafe2024 idle", "cafe2024"),
        ("магазин: 3", "магазин"),
        ("17 20 (30)", "comm"),
        # as projects write them
        ("circusd", "circusd"),
        ("rq:worker:ab12cd34ef560078: Started 4711 at 1700000000.5", "rq"),
        ("ray::Trainer.step", "ray"),
        ("ray::IDLE", "ray"),
        ("dask worker [tcp://10.0.0.1:4711]", "dask"),
        ("airflow task supervisor: ['airflow', 'tasks', 'run']", "airflow"),
        ("neutron-server: api worker (/usr/bin/python3 /usr/bin/neutron-server)", "neutron-server"),
        ("postgres: me shop 10.0.0.1(54321) idle", "postgres"),
        ("VLLM::EngineCore_DP0", "VLLM"),
        (":", "comm"),
        ("   ", "comm"),
    ],
)
def test_titles_that_processes_give_themselves(title: str, application: str) -> None:
    """A process that writes a title over its arguments keeps its application's name."""
    assert name(title) == application
    assert name(title, exe=None) == application


@pytest.mark.parametrize(
    ("exe", "cmdline", "comm", "application"),
    [
        ("/usr/sbin/nginx", ("nginx: worker process",), "nginx", "nginx"),
        ("/usr/sbin/nginx (deleted)", ("nginx",), "nginx", "nginx"),
        ("/usr/bin/bash", ("-bash",), "bash", "bash"),
        ("/usr/bin/bash", ("bash", "/usr/bin/gunicorn", "shop:app"), "gunicorn", "bash"),
        ("/opt/shop/shop", ("anything at all",), "shop", "shop"),
        (
            "/usr/bin/uwsgi-core",
            ("uwsgi", "--http", ":80", "--module", "shop:app"),
            "uwsgi",
            "shop",
        ),
        ("/usr/bin/uwsgi_python311", ("uwsgi", "-w", "shop.wsgi"), "uwsgi", "shop"),
        ("/usr/bin/uwsgi", ("uwsgi", "--wsgi-file=/srv/shop/wsgi.py"), "uwsgi", "shop"),
        ("/usr/bin/uwsgi", ("uwsgi", "--ini", "shop.ini"), "uwsgi", "uwsgi"),
        (None, ("-bash",), "bash", "bash"),
        (None, ("/usr/sbin/nginx", "-g", "daemon off;"), "nginx", "nginx"),
        (None, ("python3", "billing.py"), "python3", "billing"),
        (None, (), "kworker/0:1", "kworker/0:1"),
        (PYTHON, (), "python3", "python3"),
        (PYTHON, ("shopd", "--verbose"), "shopd", "shopd"),
        (PYTHON, ("",), "shop", "shop"),
        (None, (), "", "(unknown)"),
        (None, ("(unknown)",), "x", "'(unknown)'"),
        (PYTHON, (), "", "python"),  # an empty title
        (PYTHON, ("   ",), "   ", "python"),
        # started by the dynamic loader
        (LOADER, ("/lib64/ld-linux-x86-64.so.2", "/usr/bin/python3", "x.py"), "python3", "x"),
        (
            LOADER,
            ("ld.so", "--argv0", "a", "--library-path", "/l", "/bin/python3", "x.py"),
            "x",
            "x",
        ),
        (LOADER, ("ld.so", "--inhibit-cache", "--preload=a.so", "/srv/shop"), "shop", "shop"),
        (LOADER, ("ld.so", "--list"), "ld.so", "ld.so"),
        (None, ("/lib/ld-musl-x86_64.so.1", "--", "/usr/bin/python3", "x.py"), "python3", "x"),
        (None, ("a\x07b\x1b\udcff",), "x", "a?b??"),
        (None, ("x" * 5000,), "x", "x" * 100),
    ],
)
def test_programs_that_are_not_python_or_hard_to_tell(
    exe: str | None, cmdline: tuple[str, ...], comm: str, application: str
) -> None:
    """The program's own name, else the kernel's; always something, short and printable."""
    assert name(*cmdline, exe=exe, comm=comm) == application


def test_runners_that_run_runners_come_to_an_end() -> None:
    """A command line made to keep the daemon busy does not."""
    assert name("python3", *("-m", "pdb") * 100_000) == "pdb"
    assert name("python3", *["-u"] * 100_000, "billing.py") == "python"


@pytest.mark.parametrize(
    ("exe", "cmdline", "comm", "python"),
    [
        ("/usr/bin/python3", (), "", True),
        ("/usr/bin/python", (), "", True),
        ("/usr/bin/python3.9", (), "", True),
        ("/usr/bin/python3.13t", (), "", True),
        ("/usr/bin/python3.14d", (), "", True),
        ("/usr/bin/python3.14td", (), "", True),
        ("/usr/bin/python3.12-dbg", (), "", True),
        ("/usr/bin/python3.12 (deleted)", (), "", True),
        ("/opt/pypy/bin/pypy3.10", (), "", True),
        ("/usr/bin/bash", ("python3", "shop.py"), "python3", False),
        ("/usr/bin/python3-config", (), "", False),
        ("/usr/bin/pythonista", (), "", False),
        ("/usr/bin/ipython", (), "", False),
        ("/srv/python3/shop", (), "", False),
        (None, ("/opt/venv/bin/python3", "shop.py"), "shop", True),
        (None, ("gunicorn: worker [shop:app]",), "gunicorn: worke", True),
        (None, ("[celeryd: celery@h:ForkPoolWorker-1]",), "[celeryd: celer", True),
        (None, ("/usr/sbin/nginx",), "python3", False),
        (None, ("nginx: master process",), "nginx", False),
        (None, (), "python3", True),
        (None, (), "nginx", False),
        (None, ("/usr/bin/python3 /usr/bin/salt-minion KeepAlive",), "salt-minion", True),
        (None, ("/usr/bin/shop python3",), "shop", False),
        (LOADER, ("/lib64/ld-linux-x86-64.so.2", "/usr/bin/python3", "shop.py"), "python3", True),
        (LOADER, ("/lib64/ld-linux-x86-64.so.2", "/usr/sbin/nginx"), "nginx", False),
        (LOADER, (), "python3", True),
    ],
)
def test_which_processes_are_python(
    exe: str | None, cmdline: tuple[str, ...], comm: str, *, python: bool
) -> None:
    """By the program that runs; where that cannot be read, by what the process is called."""
    assert is_python(exe, cmdline, comm) is python


@pytest.mark.parametrize(
    "cmdline",
    [
        ("python3", "-c", "from multiprocessing.semaphore_tracker import main;main(3)"),
        ("python3", "-c", "from billiard.spawn import spawn_main; spawn_main(pipe_handle=5)"),
        ("python3", "-c", "from multiprocess.spawn import spawn_main; spawn_main(pipe_handle=5)"),
        ("python3", "-m", "joblib.externals.loky.backend.popen_loky_posix", "--pipe", "14"),
        ("python3", "-m", "loky.backend.popen_loky_posix", "--pipe", "14"),
        (
            "python3",
            "-c",
            "from joblib.externals.loky.backend.resource_tracker import main; main(3)",
        ),
        ("/opt/shop/shop", "--multiprocessing-fork", "tracker_fd=5", "pipe_handle=7"),  # frozen
        ("[celeryd: celery@host:ForkPoolWorker-1]",),
        ("[celeryd: celery@host:SpawnPoolWorker-12]",),
        ("/p/python3 -c from multiprocessing.spawn import spawn_main; spawn_main(3) x=3",),
        ("/usr/bin/python3 -c from multiprocessing.resource_tracker import main;main(3)",),
    ],
)
def test_kin_of_multiprocessing(cmdline: tuple[str, ...]) -> None:
    """Workers and helpers of what does as multiprocessing does."""
    assert is_multiprocessing_child(cmdline)


@pytest.mark.parametrize(
    "cmdline",
    [
        (),
        ("",),
        ("python3",),
        ("python3", "shop.py", "-c", "from multiprocessing.spawn import spawn_main"),
        ("python3", "-c", "print('from multiprocessing.spawn import spawn_main')"),
        ("python3", "-c"),
        ("python3", "-m", "multiprocessing"),
        ("gunicorn: worker [shop:app]",),
        ("[celeryd: celery@host:MainProcess] -active- (-A shop worker)",),
    ],
)
def test_what_is_nobodys_worker(cmdline: tuple[str, ...]) -> None:
    """An application is told from a worker by the whole form of the command line."""
    assert not is_multiprocessing_child(cmdline)


@pytest.mark.parametrize(
    ("cmdline", "kept"),
    [
        (("python3", "-u", "app.py", "--token", "x"), ("python3", "-u", "app.py")),
        (("/usr/bin/python3", "-m", "shop", "secret"), ("/usr/bin/python3", "-m", "shop")),
        (("python3", "-mshop", "secret"), ("python3", "-mshop")),
        (("python3", "-X", "dev", "/bin/gunicorn", "s:app"), ("python3", "-X", "dev", "/bin/gunicorn")),
        (("python3", "-c", "password = 'x'", "y"), ("python3", "-c")),
        (("python3", "-", "x"), ("python3", "-")),
        (("python3", "--version"), ("python3", "--version")),
        (
            ("python3", "-c", "from multiprocessing.spawn import spawn_main; spawn_main(3)", "x"),
            ("python3", "-c", "from multiprocessing.spawn import spawn_main; spawn_main(3)"),
        ),
        (("uwsgi", "--http", "secret"), ("uwsgi",)),
        (("gunicorn: worker [shop]",), ("gunicorn: worker [shop]",)),
        (("celeryd: main -A shop --password=x",), ("celeryd: main",)),
        (("/usr/bin/python3 /srv/shop.py --token=x",), ("/usr/bin/python3 /srv/shop.py",)),
        (("/v/bin/python -m shop --db postgres://u:p@h/db",), ("/v/bin/python -m shop",)),
        (("/v/bin/python -c password = 'x'",), ("/v/bin/python -c",)),
        (("/srv/bin/shop worker secret",), ("/srv/bin/shop",)),
        (("shop: GET https://me:secret@example.org/a",), ("shop: GET https://example.org/a",)),
        (("shop: password=x",), ("shop: password=…",)),
        (
            ("/p/python3 -c from multiprocessing.spawn import spawn_main; spawn_main(3) --x secret",),
            ("/p/python3 -c from multiprocessing.spawn import spawn_main; spawn_main(3)",),
        ),
        ((), ()),
        (("",), ("",)),
    ],
)  # fmt: skip
def test_arguments_can_be_left_out(cmdline: tuple[str, ...], kept: tuple[str, ...]) -> None:
    """A command line without arguments says which program runs what, and nothing that may be secret."""
    assert without_arguments(cmdline) == kept


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("https://me:secret@host/a?b=c#d", "https://host/a?b=c#d"),
        ("--db=postgres://me:se@cret@host/db", "--db=postgres://host/db"),
        ("amqp://me:se/cret@host", "amqp://host"),
        ("redis://:secret@host:6379/0", "redis://host:6379/0"),
        ("http://me@a,http://you:secret@b", "http://a,http://b"),
        ("http://host:80/@me", "http://host:80/@me"),
        ("https://host", "https://host"),
        ("me@host", "me@host"),
        ("--token=secret", "--token=…"),
        ("--api-key:secret", "--api-key:…"),
        ("host=db user=me password=secret port=1", "host=db user=me password=… port=1"),
        ("/v/python shop.py --db-password secret x", "/v/python shop.py --db-password … x"),
        ("tokenizer=fast", "tokenizer=fast"),
        ("--no-token", "--no-token"),
        ("", ""),
    ],
)
def test_no_secret_is_shown(argument: str, shown: str) -> None:
    """Users and passwords in URLs are left out, and the values of what is called a secret."""
    assert without_secrets((argument,)) == (shown,)


def test_a_secret_behind_its_option_is_not_shown() -> None:
    """An option that takes a secret hides the next argument, unless that is an option."""
    cmdline = ("shop", "--password", "secret", "x", "--token", "--verbose", "--secret")
    shown = ("shop", "--password", "…", "x", "--token", "--verbose", "--secret")
    assert without_secrets(cmdline) == shown


CHILDREN = """
import json, multiprocessing, os, sys
from multiprocessing import resource_tracker

def cmdline(pid):
    with open("/proc/%d/cmdline" % pid, "rb") as file:
        return file.read().decode("latin-1")

def work(queue, done):
    queue.put((os.getpid(), os.getppid()))
    done.wait()

if __name__ == "__main__":
    seen = {"main": cmdline(os.getpid())}
    for method in "fork", "spawn", "forkserver":
        context = multiprocessing.get_context(method)
        queue, done = context.Queue(), context.Event()
        process = context.Process(target=work, args=(queue, done))
        process.start()
        pid, parent = queue.get(timeout=60)
        seen[method] = cmdline(pid)
        if method == "forkserver":
            seen["server"] = cmdline(parent)
        done.set()
        process.join()
    seen["tracker"] = cmdline(resource_tracker._resource_tracker._pid)
    print(json.dumps(seen))
"""


def test_multiprocessing_children_on_every_interpreter(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    """Children by spawn and forkserver and the helpers are told; one by fork looks like its parent."""
    script = tmp_path / "shop.py"
    script.write_text(CHILDREN)
    result = subprocess.run(
        [*interpreter.command, str(script)], capture_output=True, text=True, timeout=100, check=True
    )
    seen = {
        kind: parse_cmdline(text.encode("latin-1"))
        for kind, text in json.loads(result.stdout).items()
    }
    assert {kind: is_multiprocessing_child(cmdline) for kind, cmdline in seen.items()} == {
        "main": False,
        "fork": False,
        "spawn": True,
        "forkserver": True,
        "server": True,
        "tracker": True,
    }
    assert name(*seen["main"]) == name(*seen["fork"]) == "shop"
    assert is_python(None, seen["spawn"], "")


@pytest.mark.parametrize(
    "options",
    [
        "{directory}/shop.py",
        "-u -OO -s {directory}/shop.py",
        "-uW ignore -bBX dev {directory}/shop.py",
        "-Wignore -Xdev -m shop",
        "-um shop",
        "-mshop",
        "--check-hash-based-pycs always {directory}/shop.py",
        "-- {directory}/shop.py",
        "-u {directory}/",
        "{directory}/__main__.py -u",
        "-m cProfile -o /dev/null -m shop",
        "-m pdb -c continue -c quit {directory}/shop.py",
    ],
)
def test_options_are_read_as_the_interpreter_reads_them(
    interpreter: Interpreter, tmp_path: Path, options: str
) -> None:
    """What the interpreter runs with these options is what the process is called."""
    directory = tmp_path / "shop"
    directory.mkdir()
    (directory / "shop.py").write_text("print(open('/proc/self/cmdline').read(), end='')")
    (directory / "__main__.py").write_text("import shop")
    result = subprocess.run(
        [*interpreter.command, *options.format(directory=directory).split()],
        env={**os.environ, "PYTHONPATH": str(directory)},
        capture_output=True,
        timeout=60,
        check=True,
    )
    *_, cmdline = (line for line in result.stdout.splitlines() if b"\0" in line)
    assert name(*parse_cmdline(cmdline)) == "shop"
