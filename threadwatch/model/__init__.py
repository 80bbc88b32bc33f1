"""Defines the frozen values that pass between the parts. Imports nothing of the rest.

``readings`` are what one poll has read, in the kernel's own units. A ``view`` is the result of one poll,
with totals: what has been accounted so far. A value that could not be read is ``None``, never 0. Units are in
the names: ``_ns``, ``_ticks``.
"""
