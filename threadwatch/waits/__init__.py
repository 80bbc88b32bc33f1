"""Samples what threads wait for, and which thread holds the GIL, between polls."""
