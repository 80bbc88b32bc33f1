"""Knows the sources of threads' Python names: the tables that processes publish, and their memory."""
