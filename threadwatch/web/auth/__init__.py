"""Decides which clients are let in: TLS, client certificates, passwords, and the file that sets them."""
