"""What is kept of each watched process from poll to poll."""
