"""What is installed beside the commands and made from what is there already: manual pages, completions.

``python -m manual`` writes it below ``packaging/share``. The arguments come from the parser of
:mod:`threadwatch.commands.arguments`, the settings from ``docs/configuration.md``, so that neither is
written twice.
"""
