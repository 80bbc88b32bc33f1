"""Parses ``/proc/PID/cgroup`` (cgroups(7)): a process's systemd unit, container and pod."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from threadwatch.errors import Malformed

_LINE = re.compile(r"[0-9]+:([^:]*):(/.*)", re.DOTALL)

_KNOWN: Final = 256
"""Texts whose result is kept: the processes of a container or unit have the same."""

_GUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

# One component of a path, by the program that made it: ID (docker, containerd, kubepods; cgroupfs
# driver), docker-ID.scope, cri-containerd-ID.scope, crio-ID.scope, nerdctl-ID.scope (systemd
# driver), libpod-ID and libpod-ID.scope (podman), libpod-payload-ID (podman in a unit),
# SLICE:cri-containerd:ID (containerd told of a systemd that is not there), kata_ID, and TASK-NUMBER
# (Fargate). Not crio-conmon-ID.scope and the like: that is a container's monitor, outside of it.
_CONTAINER = re.compile(
    r"(?:[^/]*:)?(?:(?:docker|cri-containerd|containerd|crio|libpod|libpod-payload|nerdctl)[-:])?"
    r"(?:kata_)?([0-9a-f]{64})(?:\.scope)?"
    r"|([0-9a-f]{32}-[0-9]+)",
    re.DOTALL,
)
# Two components. Cloud Foundry's have no name.
_GARDEN = re.compile(r"garden/([0-9a-f]{8}(?:-[0-9a-f]{4}){4})", re.DOTALL)
# Containers that have a name: LXC, LXD and Incus; systemd-nspawn, and what else machined has
# registered, but no virtual machine; Nomad's exec driver, ALLOCATION.TASK.
_NAMED = (
    re.compile(r"lxc/([^/]+)", re.DOTALL),
    re.compile(r"[^/]*/lxc\.payload\.([^/]+)", re.DOTALL),
    re.compile(r"machine\.slice/systemd-nspawn@([^/]+)\.service", re.DOTALL),
    re.compile(r"machine\.slice/machine-(?!qemu\\x2d|libpod)([^/]+)\.scope", re.DOTALL),
)
_NOMAD = re.compile(
    rf"(?:nomad|share\.slice|reserve\.slice)/({_GUID}\.([^/]+?))(?:\.scope)?", re.DOTALL
)
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
"""systemd.unit(5), "String escaping for inclusion in unit names"."""

# podUID and SLICE-podUID.slice, where "_" stands for "-". A static pod has 32 digits.
_POD = re.compile(
    r"(?:[^/]*-)?pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice(?::[^/]*)?)?",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The place of a process. None: it has none, or a cgroup namespace hides it."""

    systemd_unit: str | None = None
    """The innermost ``*.service`` or ``*.scope``."""
    container: str | None = None
    """The innermost container's id: 64 hexadecimal digits as a rule; the name of a container that has one."""
    container_name: str | None = None
    """The name of the innermost container, where a person has chosen it and the path has it."""
    pod_uid: str | None = None
    """The pod of Kubernetes, as its API spells it."""
    cpu: str | None = None
    """Where its CPU time is limited: the directory below ``/sys/fs/cgroup``. In a cgroup namespace of our own
    its path from there, ``../..`` first, if it is outside. None: it is in no hierarchy."""


@lru_cache(_KNOWN)
def parse_cgroup(data: bytes) -> Cgroup:
    """Return the unit, container and pod that the process's cgroup paths name, or :class:`Malformed`.

    The unit is taken from systemd's own hierarchy (v1, ``name=systemd``), or else from cgroup v2.
    Containers and pods are searched for in every hierarchy.
    """
    named = unified = pod = cpu = below = None
    container: tuple[str, str | None] | None = None
    for text in data.decode("utf-8", "replace").removesuffix("\n").split("\n") if data else ():
        match = _LINE.fullmatch(text)
        if match is None:
            raise Malformed("cgroup", f"should be N:controllers:/path, not {text[:100]!r}")
        # The kernel appends " (deleted)" to the path of a cgroup that was removed while processes
        # were in it.
        path = match[2].removesuffix(" (deleted)")
        parts = path.split("/")[::-1]
        if "cpu" in match[1].split(","):
            cpu = f"cpu{path}"
        elif not match[1]:
            below = path
        if match[1] == "name=systemd":
            named = named or _unit(parts)
        elif not match[1]:
            unified = unified or _unit(parts)
        container = container or _container(parts)
        pod = pod or _pod(parts)
    identity, name = container or (None, None)
    return Cgroup(named or unified, identity, name, pod, _directory(cpu or below))


def _directory(path: str | None) -> str | None:
    """Return a path without slashes at its ends."""
    return None if path is None else path.strip("/")


def _unit(innermost_first: list[str]) -> str | None:
    for part in innermost_first:
        if part.endswith((".service", ".scope")):
            # systemd puts one "_" before names that the kernel could mistake: "_cpu.service".
            return part.removeprefix("_")
    return None


def _container(innermost_first: list[str]) -> tuple[str, str | None] | None:
    """Return a container's id and its name, if it has one."""
    for part, parent in zip(innermost_first, [*innermost_first[1:], ""], strict=True):
        if match := _CONTAINER.fullmatch(part):
            return match[1] or match[2], None
        both = f"{parent}/{part}"
        if match := _GARDEN.fullmatch(both):
            return match[1], None
        if match := _NOMAD.fullmatch(both):
            return match[1], match[2]
        for pattern in _NAMED:
            if match := pattern.fullmatch(both):
                name = _ESCAPED.sub(lambda escaped: chr(int(escaped[1], 16)), match[1])
                return name, name
    return None


def _pod(innermost_first: list[str]) -> str | None:
    for part in innermost_first:
        match = _POD.fullmatch(part)
        if match is not None:
            return match[1].replace("_", "-")
    return None
