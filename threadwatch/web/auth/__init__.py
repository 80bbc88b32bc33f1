"""Who is let in: TLS, client certificates, passwords, and the file that says so."""
