"""The user's jobs, one per command; each reads like the steps of the work."""
