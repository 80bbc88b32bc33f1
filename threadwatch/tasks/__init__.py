"""The loops that run tasks in a process, read from its memory: the process does nothing for it."""
