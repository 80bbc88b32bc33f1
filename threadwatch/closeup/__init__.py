"""Reads of one thread what polls do not, when a person asks: what the kernel tells of it at this moment."""
