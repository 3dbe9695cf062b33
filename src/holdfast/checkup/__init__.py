"""Looks at a whole installation and says what to do. It reads only: nothing is made, changed, migrated or locked."""
