"""Defines the configuration without a file, and the name rules that each has unless it switches them off."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

from threadwatch.config.settings import Config, GroupConfig, NameRule, ThreadsConfig


def _rule(match: str, name: str) -> NameRule:
    return NameRule(re.compile(match, re.DOTALL), name)


DEFAULT_RULES: Final = (
    # CPython: threading, concurrent.futures, asyncio's child watcher (up to 3.10 without
    # "asyncio-").
    _rule(r"Thread-[0-9]+(?P<target> \(.*\))?", "Thread-N{target}"),
    _rule(r"Dummy-[0-9]+", "Dummy-N"),
    _rule(r"(?P<pool>(?:Thread|Interpreter)PoolExecutor)-[0-9]+_[0-9]+", "{pool}-N_N"),
    _rule(r"(?P<watcher>(?:asyncio-)?waitpid)-[0-9]+", "{watcher}-N"),
    # Libraries, each as its source spells the name.
    _rule(r"waitress-[0-9]+", "waitress-N"),
    _rule(r"CP Server Thread-[0-9]+", "CP Server Thread-N"),  # cheroot, CherryPy
    _rule(r"(?P<backend>asyncio|trio)-portal-[0-9a-f]+", "{backend}-portal-N"),  # AnyIO
    _rule(r"Trio thread [0-9]+", "Trio thread N"),
    _rule(r"PoolThread-[0-9]+-[0-9]+", "PoolThread-N-N"),  # Twisted, a pool without a name
    _rule(r"PoolThread-(?P<pool>.+)-[0-9]+", "PoolThread-{pool}-N"),
    _rule(r"(?P<pool>.*Dask-[A-Za-z]+-Threads)-[0-9]+-[0-9]+", "{pool}-N-N"),
    _rule(r"(?P<executor>TCP-Executor)-[0-9]+-[0-9]+", "{executor}-N-N"),  # Dask
    _rule(r"dirty-worker-[0-9]+-_[0-9]+", "dirty-worker-N-_N"),  # gunicorn
    _rule(r"kafka-python-producer-[0-9]+-network-thread", "kafka-python-producer-N-network-thread"),
    _rule(r"Timer-[0-9]+", "Timer-N"),  # celery
    _rule(r"pool-[0-9]+-worker-[0-9]+", "pool-N-worker-N"),  # psycopg_pool, a pool without a name
    _rule(r"pool-[0-9]+-scheduler", "pool-N-scheduler"),
    _rule(
        r"subshell-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "subshell-N"
    ),  # ipykernel
    _rule(r"zeroconf-ServiceBrowser-(?P<types>.*)-[0-9]+", "zeroconf-ServiceBrowser-{types}-N"),
    # Threads that the kernel makes in a process: io_uring/io-wq.c, io_uring/sqpoll.c,
    # drivers/vhost/vhost.c.
    _rule(r"(?P<kind>iou-(?:wrk|sqp|mgr)|vhost)-[0-9]+", "{kind}-N"),
    # Threads of libraries in C, C++ and Rust, by their comm.
    _rule(r"rdk:broker-?[0-9]+", "rdk:brokerN"),  # librdkafka
    _rule(r"ZMQbg/(?P<kind>IO/|)[0-9]+", "ZMQbg/{kind}N"),  # libzmq
    _rule(r"(?P<side>client|server)\.poll[0-9]+", "{side}.pollN"),  # Ray
    _rule(r"av:(?P<what>[^:]+):(?P<kind>df|ff:)[0-9]+", "av:{what}:{kind}N"),  # FFmpeg
    _rule(r"NCCL (?P<kind>Progress|Service) *[0-9]+", "NCCL {kind} N"),
    _rule(r"cuda[0-9a-f]{11}", "cudaN"),  # NVIDIA's driver
    _rule(r"AwsEventLoop [0-9]+", "AwsEventLoop N"),  # AWS's common runtime
    _rule(r"rocksdb:(?P<pool>low|high|bottom|user)[0-9]+", "rocksdb:{pool}N"),
    _rule(r"llvmpipe-[0-9]+", "llvmpipe-N"),  # Mesa
    _rule(r"(?P<kind>GC Thread|G1 (?:Conc|Refine))#[0-9]+", "{kind}#N"),  # a JVM in the process
    # concurrent.futures with a thread_name_prefix: a person has chosen the prefix, Python the
    # number.
    _rule(r"(?P<prefix>.+)_[0-9]+", "{prefix}_N"),
)
"""Folds names that Python and its common libraries number; every other name stays as it is."""

DEFAULT_CONFIG: Final = Config(
    poll_interval_ns=1_000_000_000,
    groups=(),
    default=GroupConfig(
        name="{app}",
        matches=MappingProxyType({}),
        threads=ThreadsConfig(rules=DEFAULT_RULES, cap=200, per="group"),
        collect=frozenset(),
        expire_after_ns=15 * 60 * 1_000_000_000,
    ),
    watch_unmatched=True,
    thread_info=False,
)
"""The configuration without a file."""
