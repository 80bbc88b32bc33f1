"""What threads wait for, and who holds the GIL: sampled between polls."""
