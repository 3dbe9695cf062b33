"""Sends alerts through Apprise, and signs and posts webhooks. It must never decide what is worth an alert."""
