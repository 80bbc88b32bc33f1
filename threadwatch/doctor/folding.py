"""Finds applications whose threads have names that differ only in a number, and the rules for them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from threadwatch.doctor.findings import Finding
from threadwatch.labels.alike import Proposal, proposals
from threadwatch.words.text import printable


@dataclass(frozen=True, slots=True)
class Folding:
    """A rule that folds names of an application's threads."""

    application: str
    proposal: Proposal

    @property
    def text(self) -> str:
        """Return a sentence that says what is alike."""
        examples = ", ".join(map(printable, self.proposal.examples))
        return (
            f"{printable(self.application)}: {self.proposal.names} names of threads differ only in numbers "
            f"or hexadecimal strings ({examples} …), and each has a series. A rule for the configuration "
            f"would be:"
        )


def foldings(findings: Sequence[Finding]) -> tuple[Folding, ...]:
    """Return the rules that would help, application by application."""
    labels: dict[str, dict[str, str]] = {}
    for finding in findings:
        labels.setdefault(finding.application, {}).update(finding.labels)
    return tuple(
        Folding(application, proposal)
        for application, names in labels.items()
        for proposal in proposals(names)
    )
