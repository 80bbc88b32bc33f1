"""``threadwatch doctor`` says what is visible, what is hidden, and how to grant it."""
