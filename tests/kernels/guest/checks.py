"""All checks, in the order in which they run: each begins where the ones before it have led."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.kernels.guest import cgroups, rights, service, threads


@dataclass(frozen=True, slots=True)
class Check:
    """One claim, and what tries it: that returns figures or nothing, or raises an error."""

    name: str
    run: Callable[[], str | None]
    boot: int = 1
    """Which time the machine has to be started."""
    needs: tuple[str, ...] = ()
    """Names of those that must have run, beside :data:`_BASIS`."""


_BASIS: Final = (
    *("the machine", "docs/systemd.md: install it"),
    *("names that are published", "names from memory"),
)
"""Install the service and start the programs that all others look at."""
CHECKS: Final = (
    Check("the machine", threads.facts),
    Check("docs/systemd.md: install it", service.install),
    Check("names that are published", threads.names_published),
    Check("names from memory", threads.names_from_memory),
    Check("the GIL", threads.gil),
    Check("CPU time, by the threads' own clocks", threads.cpu_time, needs=("the GIL",)),
    Check("tasks of asyncio", threads.tasks),
    *(Check(f"Yama, ptrace_scope {n}", functools.partial(rights.yama, n)) for n in range(3)),
    Check("subset=pid", rights.subset_pid),
    Check("own-user.conf, without and with Yama", rights.own_user),
    *(Check(f"hidepid={n}", functools.partial(rights.hidepid, n)) for n in (1, 2, 4)),
    Check("AppArmor", rights.apparmor),
    Check("groups by unit", cgroups.units),
    Check("labels of a container and its pod", cgroups.containers),
    Check("throttling, by the kernel's count", cgroups.throttled),
    Check("no-capabilities.conf", service.no_capabilities),
    Check("reload", service.reload),
    Check("notify-reload.conf", service.reload_that_waits),
    Check("watchdog", service.watchdog),
    Check("MemoryMax", service.memory_max),
    Check("docs/systemd.md: several", service.several),
    Check("docs/systemd.md: upgrade", service.upgrade),
    Check("a user's own unit", service.users_own),
    Check("docs/systemd.md: socket", service.socket),
    Check("Yama, ptrace_scope 3", rights.yama_3),
    Check(
        "after a reboot",
        service.after_reboot,
        boot=2,
        needs=("a user's own unit", "docs/systemd.md: socket"),
    ),
)


def chosen(words: str) -> list[Check]:
    """Return those that have the words in their name, behind those that these need; without words, all."""
    asked = {check.name: check.needs for check in CHECKS if words in check.name}
    needed = {name for needs in asked.values() for name in (*_BASIS, *needs)}
    return [check for check in CHECKS if check.name in needed | asked.keys()]
