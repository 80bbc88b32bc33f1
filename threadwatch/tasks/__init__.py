"""Reads the loops that run tasks in a process from its memory: the process does nothing for that."""
