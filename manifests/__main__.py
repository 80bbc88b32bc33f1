"""Write the files of ``config/`` that follow from others: ``python -m manifests``."""

from __future__ import annotations

from manifests.files import files

if __name__ == "__main__":
    for path, text in files():
        path.write_text(text, encoding="utf-8")
