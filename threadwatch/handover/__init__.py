"""Receives the tables that processes hand over to the daemon, and keeps them until a poll takes them."""
