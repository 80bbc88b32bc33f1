"""Prints what is installed here as CycloneDX 1.6: Python's packages, Python, and Debian's packages below.

The image's build runs it, by the Python whose packages are to be listed
(docs/decisions/0051-what-the-image-is-made-of.md).
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

_DPKG = Path("/var/lib/dpkg")
_INSTALLED = "install ok installed"
_OURS = "prometheus-threadwatch"


def bom(dpkg: Path = _DPKG) -> dict[str, Any]:
    """Return the bill of materials, the same for the same image."""
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        system = {}
    components = [*_python(), *_debian(dpkg, system)]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": "threadwatch",
                "name": "threadwatch",
                "version": importlib.metadata.version(_OURS),
            }
        },
        "components": sorted(components, key=lambda component: str(component["bom-ref"])),
    }


def _component(kind: str, name: str, version: str, purl: str, **more: object) -> dict[str, Any]:
    found = {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl, **more}
    return {key: value for key, value in found.items() if value}


def _python() -> Iterator[dict[str, Any]]:
    version = platform.python_version()
    yield _component("platform", "python", version, f"pkg:generic/python@{version}")
    for distribution in importlib.metadata.distributions():
        told = distribution.metadata
        # https://packaging.python.org/en/latest/specifications/name-normalization/
        name = re.sub(r"[-_.]+", "-", told["Name"]).lower()
        purl = f"pkg:pypi/{name}@{quote(distribution.version)}"
        yield _component(
            "library", told["Name"], distribution.version, purl, licenses=_licences(told)
        )


def _licences(told: importlib.metadata.PackageMetadata) -> list[dict[str, Any]]:
    """Return the license as the package says it: by SPDX's expression, or in a line of its own words."""
    if expression := told.get("License-Expression"):
        return [{"expression": expression}]
    named = told.get("License") or ""
    return [{"license": {"name": named}}] if named and "\n" not in named else []


def _debian(dpkg: Path, system: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the packages that dpkg has installed; also those of an image without dpkg (status.d)."""
    files = [dpkg / "status", *sorted((dpkg / "status.d").glob("*"))]
    vendor = system.get("ID", "debian")
    distribution = f"{vendor}-{system.get('VERSION_ID', '')}".removesuffix("-")
    for path in files:
        if path.is_file():
            for stanza in path.read_text(encoding="utf-8").split("\n\n"):
                fields = dict(re.findall(r"^([\w-]+): (.*)$", stanza, re.MULTILINE))
                if fields and fields.get("Status", _INSTALLED) == _INSTALLED:
                    name, version = fields["Package"], fields["Version"]
                    arch = fields.get("Architecture", "all")
                    # https://github.com/package-url/purl-spec: deb
                    purl = f"pkg:deb/{vendor}/{quote(name)}@{quote(version, safe=':')}"
                    at = f"?arch={arch}&distro={distribution}"
                    yield _component("library", name, version, purl + at)


if __name__ == "__main__":
    json.dump(bom(), sys.stdout, indent=1)
    print()
