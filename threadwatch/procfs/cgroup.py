"""Parses ``/proc/PID/cgroup`` (cgroups(7)): a process's systemd unit and container."""

from __future__ import annotations

import re
from dataclasses import dataclass

from threadwatch.errors import Malformed

_LINE = re.compile(r"[0-9]+:([^:]*):(/.*)", re.DOTALL)

# One component of a path, by the program that made it: ID (docker, containerd, kubepods; cgroupfs
# driver), docker-ID.scope, cri-containerd-ID.scope, crio-ID.scope, nerdctl-ID.scope (systemd
# driver), libpod-ID and libpod-ID.scope (podman), SLICE:cri-containerd:ID (containerd told of a
# systemd that is not there). Not crio-conmon-ID.scope and the like: that is a container's monitor,
# outside of it.
_CONTAINER = re.compile(
    r"(?:[^/]*:)?(?:(?:docker|cri-containerd|containerd|crio|libpod|nerdctl)[-:])?"
    r"([0-9a-f]{64})(?:\.scope)?"
)


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The unit and the container of a process. None: it has none, or a cgroup namespace hides it."""

    systemd_unit: str | None
    """The innermost ``*.service`` or ``*.scope``."""
    container: str | None
    """The innermost container's id: 64 hexadecimal digits."""


def parse_cgroup(data: bytes) -> Cgroup:
    """Return the unit and the container that the process's cgroup paths name, or :class:`Malformed`.

    The unit is taken from systemd's own hierarchy (v1, ``name=systemd``), or else from cgroup v2.
    Containers are searched for in every hierarchy.
    """
    named = unified = container = None
    for text in data.decode("utf-8", "replace").removesuffix("\n").split("\n") if data else ():
        match = _LINE.fullmatch(text)
        if match is None:
            raise Malformed("cgroup", f"should be N:controllers:/path, not {text[:100]!r}")
        # The kernel appends " (deleted)" to the path of a cgroup that was removed while processes
        # were in it.
        parts = match[2].removesuffix(" (deleted)").split("/")[::-1]
        if match[1] == "name=systemd":
            named = named or _unit(parts)
        elif not match[1]:
            unified = unified or _unit(parts)
        container = container or _container(parts)
    return Cgroup(systemd_unit=named or unified, container=container)


def _unit(innermost_first: list[str]) -> str | None:
    for part in innermost_first:
        if part.endswith((".service", ".scope")):
            # systemd puts one "_" before names that the kernel could mistake: "_cpu.service".
            return part.removeprefix("_")
    return None


def _container(innermost_first: list[str]) -> str | None:
    for part in innermost_first:
        match = _CONTAINER.fullmatch(part)
        if match is not None:
            return match[1]
    return None
