"""Carries alerts to people, through Apprise. Never decides what is worth an alert."""
