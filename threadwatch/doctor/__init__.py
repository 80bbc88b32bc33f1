"""Says what is visible, what is hidden, and how to grant it: ``threadwatch doctor``."""
