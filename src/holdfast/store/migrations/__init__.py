"""Steps from any released database to this one, forward only."""
