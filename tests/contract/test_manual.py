"""What is made from other files of the repository is what would be made now."""

from __future__ import annotations

from manual.__main__ import SHARE, everything


def test_files_are_what_the_parser_and_the_documentation_say() -> None:
    """The pages and completions in the repository are those that ./dev manual makes."""
    stale = [
        str(path)
        for path, text in everything().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert not stale, "run ./dev manual"
    assert {p for p in SHARE.rglob("*") if p.is_file()} == set(everything())
