"""Puts a View into words and JSON: shared by all outputs for people."""
