"""Checks a whole installation and says what to do. It only reads: it creates, changes, migrates and locks nothing."""
