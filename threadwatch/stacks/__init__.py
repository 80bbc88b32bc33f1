"""Asks py-spy for the Python stacks of one process, when a person wants to see them."""
