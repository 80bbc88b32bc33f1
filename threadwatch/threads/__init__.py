"""Reads a process's threads from the kernel, at a cost that follows how many of them run."""
