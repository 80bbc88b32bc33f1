"""Has a running process publish its threads, or cease to: ``threadwatch attach`` and ``detach``.

The only package that writes to another process. CPython 3.14 and later can be asked to run a script
(PEP 768); docs/decisions/0030-attaching.md says how that is done, and what is checked before anything is
written.
"""
