"""Prints what is wrong with Kubernetes objects, by the schemas of the versions named.

Batches of objects come in on standard input, and for each a list of lines goes out, as JSON. Runs in the
environment that :mod:`tests.kubernetes` makes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
from cloudcoil.models.prometheus_operator import v1


def _lost(before: Any, after: Any, at: str = "") -> Iterator[str]:
    """Yield where something stood before that is no more: the models drop what they do not know."""
    if isinstance(before, dict):
        for key, value in before.items():
            if not isinstance(after, dict) or key not in after:
                yield f"{at}.{key}"
            else:
                yield from _lost(value, after[key], f"{at}.{key}")
    elif isinstance(before, list):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _lost(one, other, f"{at}[{index}]")


def _faults(thing: dict[str, Any], versions: list[str]) -> Iterator[str]:
    if thing["apiVersion"].startswith("monitoring.coreos.com/"):
        try:
            model = getattr(v1, thing["kind"]).model_validate(thing)
        except ValueError as error:
            yield str(error).replace("\n", " ")
            return
        kept = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
        yield from (f"{place} is unknown" for place in _lost(thing, kept))
        return
    for version in versions:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            place = ".".join(str(step) for step in error.path)
            yield f"{version}: {place}: {error.message}"


def main() -> None:
    """Read, validate, print."""
    found = [
        [
            f"{thing['kind']} {thing['metadata']['name']}: {fault}"
            for thing in batch
            for fault in _faults(thing, sys.argv[1:])
        ]
        for batch in json.load(sys.stdin)
    ]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
