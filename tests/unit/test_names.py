"""Thread names become series, processes become groups."""

from __future__ import annotations

import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from threadwatch.config.parse import parse_config
from threadwatch.config.settings import Config, NameRule
from threadwatch.labels.groups import (
    CGROUP_MATCHERS,
    DEFAULT_RULES,
    UNNAMED,
    ProcessFacts,
    ThreadNames,
    choose_group,
    config_needs,
)
from threadwatch.model.keys import OTHER, UNATTRIBUTED
from threadwatch.procfs import Cgroup

DEFAULT = ThreadNames(DEFAULT_RULES)
PLACE = Cgroup("shop.service", "ab" * 32, None, "f6f2d169-f2ae-4afa-95ed-06ff2ed6b288")
PYTHON = ProcessFacts(
    exe="/usr/bin/python3.12",
    cmdline=("python3", "/opt/venv/bin/gunicorn", "shop.wsgi"),
    comm="gunicorn",
    user="www",
    cgroup=PLACE,
    python=True,
    published=False,
    parent_group=None,
)


def parse(text: str) -> Config:
    """Return the configuration in a text."""
    return parse_config(text.encode(), "c.yml")


def rules(*pairs: tuple[str, str]) -> ThreadNames:
    """Names by these rules alone."""
    return ThreadNames([NameRule(re.compile(match), name) for match, name in pairs])


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("Thread-1", "Thread-N"),
        ("Thread-1234567", "Thread-N"),
        ("Thread-17 (work)", "Thread-N (work)"),
        ("Thread-3 (_handle_workers)", "Thread-N (_handle_workers)"),
        ("Thread-3 (process_request_thread)", "Thread-N (process_request_thread)"),
        ("Thread-3 (<lambda>)", "Thread-N (<lambda>)"),
        ("Thread-3 (a) (b))", "Thread-N (a) (b))"),
        ("Thread-3 ()", "Thread-N ()"),
        ("Thread-3 (two\nlines\r\n)", "Thread-N (two\nlines\r\n)"),
        ("Thread-3 ({x} {} %s \\1)", "Thread-N ({x} {} %s \\1)"),
        ("Thread-3 (worker_7)", "Thread-N (worker_7)"),
        ("Thread-3 (é😀)", "Thread-N (é😀)"),
        ("ThreadPoolExecutor-0_0", "ThreadPoolExecutor-N_N"),
        ("ThreadPoolExecutor-12_34", "ThreadPoolExecutor-N_N"),
        ("ThreadPoolExecutor-ThreadScheduler_0", "ThreadPoolExecutor-ThreadScheduler_N"),
        ("asyncio_0", "asyncio_N"),
        ("fetch_3", "fetch_N"),
        ("fetch two\nlines_3", "fetch two\nlines_N"),
        ("fetch_1_2", "fetch_1_N"),
        ("Dummy-4", "Dummy-N"),
        ("waitress-0", "waitress-N"),
        ("dirty-worker-4711-_0", "dirty-worker-N-_N"),
        ("TCP-Executor-4711-0", "TCP-Executor-N-N"),
        ("Timer-1", "Timer-N"),
        ("pool-1-worker-0", "pool-N-worker-N"),
        ("pool-12-scheduler", "pool-N-scheduler"),
        ("subshell-1c7a3f0e-5a0c-4b7e-8f55-0123456789ab", "subshell-N"),
        ("zeroconf-ServiceBrowser-_http._tcp-4711", "zeroconf-ServiceBrowser-_http._tcp-N"),
        ("iou-wrk-4711", "iou-wrk-N"),
        ("iou-wrk-4194304", "iou-wrk-N"),
        ("iou-sqp-4711", "iou-sqp-N"),
        ("iou-mgr-4711", "iou-mgr-N"),
        ("vhost-4711", "vhost-N"),
        ("rdk:broker3", "rdk:brokerN"),
        ("rdk:broker-1", "rdk:brokerN"),
        ("ZMQbg/IO/0", "ZMQbg/IO/N"),
        ("ZMQbg/1", "ZMQbg/N"),
        ("client.poll0", "client.pollN"),
        ("av:h264:df11", "av:h264:dfN"),
        ("av:scale:ff:3", "av:scale:ff:N"),
        ("NCCL Progress 0", "NCCL Progress N"),
        ("NCCL Service 12", "NCCL Service N"),
        ("cuda00001400006", "cudaN"),
        ("AwsEventLoop 10", "AwsEventLoop N"),
        ("rocksdb:low0", "rocksdb:lowN"),
        ("llvmpipe-3", "llvmpipe-N"),
        ("G1 Conc#0", "G1 Conc#N"),
    ],
)
def test_numbers_that_python_and_libraries_give_are_folded(name: str, folded: str) -> None:
    """What a program numbers itself becomes N; the rest of the name is kept to the character."""
    assert DEFAULT.fold(name) == folded


@pytest.mark.parametrize(
    "name",
    [
        "MainThread",
        "QueueFeederThread",
        "QueueManagerThread",
        "ExecutorManagerThread",
        "AnyIO worker thread",
        "APScheduler",
        "pymongo_kill_cursors_thread",
        "metrics-flush",
        "worker-3",
        "worker 3",
        "worker3",
        "shard_a",
        "shard_",
        "_3",
        "shard_3 ",
        "shard_3\n",
        "shard_\N{ARABIC-INDIC DIGIT THREE}",
        "Thread-",
        "Thread-x",
        "Thread-3x",
        "Thread-3(work)",
        "Thread-3 (work",
        "thread-3",
        "My Thread-3",
        "Thread-\N{FULLWIDTH DIGIT THREE}",
        "Thread-N (work)",
        "ThreadPoolExecutor-N_N",
        "",
        " ",
        "{name}",
        "(grpc_global_tim)",
        "grpc_global_tim",
        "tokio-runtime-w",
        "jemalloc_bg_thd",
        "ThreadPoolForeg",
        "pt_main_thread",
        "cuda-EvtHandlr",
        "rdk:main",
        "ZMQbg/Reaper",
        "iou-wrk-x",
        "my-iou-wrk-7",
        "blocking-3",
        "my-pool-1-worker-0",
        "shop-worker-7",
        "GC Thread",
        "subshell-7",
    ],
)
def test_a_name_that_a_person_chose_stays(name: str) -> None:
    """Only what is surely numbered by a program is folded."""
    assert DEFAULT.fold(name) == name


def test_names_that_this_python_gives_are_folded() -> None:
    """Threads of the running interpreter itself, by threading, executors and asyncio."""

    def name() -> str:
        return threading.current_thread().name

    async def in_executor() -> str:
        return await asyncio.get_running_loop().run_in_executor(None, name)

    with ThreadPoolExecutor(1) as plain, ThreadPoolExecutor(1, "fetch") as named:
        assert DEFAULT.fold(plain.submit(name).result()) == "ThreadPoolExecutor-N_N"
        assert DEFAULT.fold(named.submit(name).result()) == "fetch_N"
    assert DEFAULT.fold(asyncio.run(in_executor())) == "asyncio_N"
    assert DEFAULT.fold(threading.Thread(target=name).name) == "Thread-N (name)"
    assert DEFAULT.fold(threading.Timer(1, name).name) == "Thread-N"


def test_the_first_rule_that_matches_in_full_is_applied_alone() -> None:
    """Rules are tried in order, against the whole name, and once."""
    names = rules(("a", "b"), ("b.*", "c"), ("b", "d"), ("c", "e"))
    assert [names.fold(name) for name in ("a", "b", "c", "xb", "bx")] == ["b", "c", "e", "xb", "c"]


def test_rules_expand_their_captures() -> None:
    """Captures stand in the name; one that took no part is empty; braces can be written."""
    names = rules((r"(?P<pool>\w+)-\d+(?P<extra>!)?", "{{{pool}{extra}}}-N"))
    assert names.fold("db-7") == "{db}-N"
    assert names.fold("db-7!") == "{db!}-N"


def test_rules_may_be_none() -> None:
    """Without rules every name is its own series."""
    assert rules().fold("Thread-17") == "Thread-17"


def test_names_for_labels() -> None:
    """An empty name has a stand-in, and no thread can take a name of threadwatch's own."""
    assert DEFAULT.series_name("") == "(unnamed)"
    assert DEFAULT.series_name("Thread-17") == "Thread-N"
    assert DEFAULT.series_name(OTHER) == "'(other)'"
    assert DEFAULT.series_name(UNATTRIBUTED) == "'(unattributed)'"
    assert DEFAULT.series_name(UNNAMED) == "'(unnamed)'"
    assert rules(("(?P<x>.*)!", "{x}")).series_name("!") == "(unnamed)"
    assert rules(("(?P<x>.*)!", "{x}")).series_name("(other)!") == "'(other)'"


def test_a_name_can_always_be_written_as_utf_8() -> None:
    """Lone surrogates, which Python allows in names, do not get into labels."""
    assert DEFAULT.series_name("a\ud800b") == "a?b"
    assert DEFAULT.series_name("Thread-1 (\udcff)") == "Thread-N (?)"


def test_what_is_remembered_of_names_is_limited() -> None:
    """A target that makes names without end does not make the daemon grow."""
    names = ThreadNames(DEFAULT_RULES)
    for number in range(10_000):
        names.series_name(f"name {number}")
    info = names._fold.cache_info()
    assert info.maxsize is not None
    assert info.currsize == info.maxsize < 10_000


def test_names_are_not_longer_than_a_table_can_hold() -> None:
    """A rule that repeats its captures cannot make endless labels."""
    assert len(rules(("(?P<x>.*)", "{x}{x}{x}")).fold("x" * 192)) == 192


# groups


def test_without_groups_python_processes_are_watched_under_their_applications_name() -> None:
    """The default group: the application, not the interpreter."""
    config = parse("{}")
    assert choose_group(config, PYTHON) == (config.default, "shop")


def test_a_process_that_publishes_is_watched_whatever_its_program_is() -> None:
    """An embedded Python is not called python, but it publishes."""
    facts = replace(PYTHON, exe="/usr/bin/blender", cmdline=("blender",), python=False)
    assert choose_group(parse("{}"), facts) is None
    assert choose_group(parse("{}"), replace(facts, published=True)) == (
        parse("{}").default,
        "blender",
    )


def test_unmatched_processes_can_be_ignored() -> None:
    """With `unmatched: ignore` only groups count, even for a process that publishes."""
    config = parse("unmatched: ignore\ngroups: [{name: a, match: {comm: nginx}}]")
    assert choose_group(config, replace(PYTHON, published=True)) is None
    nginx = replace(PYTHON, comm="nginx", python=False)
    assert choose_group(config, nginx) == (config.groups[0], "a")


def test_the_first_group_wins() -> None:
    """Groups are tried in the order of the file."""
    config = parse(
        "groups:\n"
        "- {name: none, match: {comm: nothing}}\n"
        "- {name: first, match: {comm: gunicorn}}\n"
        "- {name: second, match: {exe: python}}\n"
    )
    assert choose_group(config, PYTHON) == (config.groups[1], "first")


@pytest.mark.parametrize(
    ("matcher", "matches"),
    [
        ("exe: ^/usr/bin/python", True),
        ("exe: ^python", False),
        ("cmdline: ^python3 /opt/venv/bin/gunicorn shop.wsgi$", True),
        ("comm: corn", True),
        ("comm: ^corn", False),
        ("user: ^www$", True),
        ("systemd_unit: shop", True),
        (r"container: ^[0-9a-f]{64}$", True),
    ],
)
def test_matchers_search(matcher: str, *, matches: bool) -> None:
    """A pattern matches anywhere unless it has anchors."""
    key, _, pattern = matcher.partition(": ")
    config = parse(f"groups:\n- name: a\n  match:\n    {key}: '{pattern}'\nunmatched: ignore")
    assert (choose_group(config, PYTHON) is not None) is matches


def test_all_matchers_of_a_group_have_to_match() -> None:
    """One that does not is enough for the next group."""
    config = parse("groups: [{name: a, match: {comm: gunicorn, user: root}}]")
    assert choose_group(config, PYTHON) == (config.default, "shop")


@pytest.mark.parametrize(
    "field", ["exe", "user", "systemd_unit", "container", "container_name", "pod_uid"]
)
def test_what_cannot_be_read_does_not_match(field: str) -> None:
    """Not even a pattern that matches everything."""
    config = parse(f"groups: [{{name: a, match: {{{field}: '.*'}}}}]\nunmatched: ignore")
    facts = replace(PYTHON, cgroup=replace(PLACE, container_name="web"))
    assert choose_group(config, facts) is not None
    if field in CGROUP_MATCHERS:
        facts = replace(facts, cgroup=Cgroup())
    else:
        facts = replace(facts, **{field: None})  # type: ignore[arg-type]  # field is one that can be None
    assert choose_group(config, facts) is None


def test_a_process_without_arguments_matches_no_cmdline() -> None:
    """Kernel threads and zombies have no command line that could match."""
    config = parse("groups: [{name: a, match: {cmdline: '.*'}}]\nunmatched: ignore")
    assert choose_group(config, replace(PYTHON, cmdline=())) is None


def test_a_program_that_was_replaced_matches_by_its_path() -> None:
    """After an upgrade the kernel says "(deleted)"; the group stays the same."""
    config = parse("groups: [{name: '{exe}', match: {exe: 'python3.12$'}}]")
    facts = replace(PYTHON, exe="/usr/bin/python3.12 (deleted)")
    assert choose_group(config, facts) == (config.groups[0], "python3.12")


def test_the_name_is_made_of_fields_and_captures_of_all_matchers() -> None:
    """Everything that a name can have."""
    config = parse(
        "groups:\n"
        "- name: '{app}/{comm}/{exe}/{user}/{unit}/{id}/{{x}}'\n"
        "  match:\n"
        "    systemd_unit: '(?P<unit>.*).service'\n"
        "    container: '^(?P<id>.{4})'\n"
    )
    chosen = choose_group(config, PYTHON)
    assert chosen == (config.groups[0], "shop/gunicorn/python3.12/www/shop/abab/{x}")


def test_fields_that_cannot_be_read_have_a_stand_in() -> None:
    """A name never fails for want of a permission."""
    config = parse("groups: [{name: '{exe} {user} {x}', match: {comm: 'gun(?P<x>z)?'}}]")
    facts = replace(PYTHON, exe=None, user=None)
    assert choose_group(config, facts) == (config.groups[0], "(unknown) (unknown)")


def test_a_name_can_say_where_a_process_runs() -> None:
    """The container's id is short, a name whole; what a process does not have is none."""
    config = parse(
        "groups: [{name: '{app} {container} {container_name} {pod_uid} {unit}', match: {exe: python}}]"
    )
    uid = "f6f2d169-f2ae-4afa-95ed-06ff2ed6b288"
    for cgroup, name in (
        (PLACE, f"shop {'ab' * 6} none {uid} shop.service"),
        (Cgroup(container="web1", container_name="web1"), "shop web1 web1 none none"),
        (Cgroup(), "shop none none none none"),
    ):
        assert choose_group(config, replace(PYTHON, cgroup=cgroup)) == (config.groups[0], name)


def test_a_default_group_is_of_one_container() -> None:
    """In another container than ours an application has that container behind its name, and only there."""
    config = parse("groups: [{name: '{app}', match: {user: ^shared$}}]")
    apart = replace(PYTHON, apart=True)
    assert choose_group(config, PYTHON) == (config.default, "shop")
    assert choose_group(config, apart) == (config.default, f"shop@{'ab' * 6}")
    named = replace(apart, cgroup=Cgroup(container="web1", container_name="web1"))
    assert choose_group(config, named) == (config.default, "shop@web1")
    assert choose_group(config, replace(apart, user="shared")) == (config.groups[0], "shop")
    long = replace(named, cmdline=("python3", "a" * 200), cgroup=Cgroup(container="\n" * 200))
    assert choose_group(config, long) == (config.default, "a" * 100)
    long = replace(long, cgroup=Cgroup(container="b" * 200))
    assert choose_group(config, long) == (config.default, f"{'a' * 59}@{'b' * 40}")


@pytest.mark.parametrize("comm", ["runc:[0:PARENT]", "runc:[1:CHILD]", "runc:[2:INIT]"])
def test_a_containers_runtime_is_in_no_group(comm: str) -> None:
    """runc in the new container's cgroup, before it becomes the application; a Python may be called so."""
    config = parse("groups: [{name: '{container}', match: {container: .}}]\nunmatched: ignore")
    runtime = replace(PYTHON, comm=comm, exe="/memfd:runc_cloned:/proc/self/exe (deleted)")
    assert choose_group(config, replace(runtime, exe=None)) is None
    assert choose_group(config, runtime) is None
    assert choose_group(config, replace(PYTHON, comm=comm)) is not None


def test_hostile_names_of_groups_are_short_and_printable() -> None:
    """What a process calls itself is not passed on to terminals and labels as it is."""
    config = parse("groups: [{name: '{comm}', match: {exe: python}}]")
    for comm, name in (
        ("a\nb\x1b[31m\0", "a?b?[31m?"),
        ("\udcff\u202e", "??"),
        ("x" * 1000, "x" * 100),
        ("", "(unnamed)"),
        (" \n", "(unnamed)"),
        ("{app}", "{app}"),
    ):
        assert choose_group(config, replace(PYTHON, comm=comm)) == (config.groups[0], name)


@pytest.mark.parametrize("own", [OTHER, UNATTRIBUTED, UNNAMED])
def test_no_application_takes_a_name_of_ours(own: str) -> None:
    """An application that is called like one of threadwatch's own names stands in quotes."""
    for cmdline in (("python3", f"{own}.py"), ("python3", "-m", own), ("python3", f"/srv/{own}")):
        chosen = choose_group(parse("{}"), replace(PYTHON, cmdline=cmdline))
        assert chosen is not None
        assert chosen[1] == f"'{own}'"
    config = parse("groups: [{name: '({x})', match: {comm: '(?P<x>.*)'}}]")
    facts = replace(PYTHON, comm=own[1:-1])
    assert choose_group(config, facts) == (config.groups[0], f"'{own}'")


def test_a_group_has_no_password_in_its_name() -> None:
    """What a capture takes of a URL is shown without who logs in there."""
    config = parse("groups: [{name: '{db}', match: {cmdline: '--db (?P<db>[^ ]+)'}}]")
    facts = replace(PYTHON, cmdline=("python3", "shop.py", "--db", "postgres://me:secret@db/shop"))
    assert choose_group(config, facts) == (config.groups[0], "postgres://db/shop")


def test_multiprocessing_children_are_in_their_parents_group() -> None:
    """Whatever would match a child: it is part of its parent's application."""
    config = parse(
        "groups: [{name: rest, match: {cmdline: multiprocessing}}, {name: shop, match: {comm: x}}]"
    )
    child = replace(PYTHON, cmdline=("python3", "-c", "from multiprocessing.spawn import x"))
    assert choose_group(config, replace(child, parent_group="shop")) == (config.groups[1], "shop")
    assert choose_group(config, replace(child, parent_group="x")) == (config.default, "x")
    known = replace(child, parent_group="a", parent_config=config.groups[0])
    assert choose_group(config, known) == (config.groups[0], "a")


def test_a_long_command_line_is_matched_by_its_beginning() -> None:
    """A target cannot make a pattern work through megabytes."""
    config = parse("groups: [{name: a, match: {cmdline: 'z'}}]\nunmatched: ignore")
    assert choose_group(config, replace(PYTHON, cmdline=("a" * 4095, "z"))) is None
    assert choose_group(config, replace(PYTHON, cmdline=("a" * 4094, "z"))) is not None


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("{}", {"exe", "cmdline", "comm"}),
        ("unmatched: ignore", set()),
        ("unmatched: ignore\ngroups: [{name: a, match: {comm: x}}]", {"comm"}),
        ("unmatched: ignore\ngroups: [{name: '{user}', match: {comm: x}}]", {"comm", "user"}),
        ("unmatched: ignore\ngroups: [{name: '{{user}}', match: {comm: x}}]", {"comm"}),
        (
            "unmatched: ignore\ngroups: [{name: '{app}', match: {container: x}}]",
            {"container", "exe", "cmdline", "comm"},
        ),
        (
            "unmatched: ignore\ngroups: [{name: '{unit}{pod_uid}', match: {comm: x}}]",
            {"comm", "systemd_unit", "pod_uid"},
        ),
        (
            "groups: [{name: a, match: {systemd_unit: x, user: y}}]",
            {"systemd_unit", "user", "exe", "cmdline", "comm"},
        ),
    ],
)
def test_only_what_the_configuration_looks_at_needs_to_be_read(text: str, needs: set[str]) -> None:
    """What no group asks for does not cost a file per process."""
    assert config_needs(parse(text)) == needs
