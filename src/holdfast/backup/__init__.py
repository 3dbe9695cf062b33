"""Backups that are one file for both databases, restoring them, and moving a company in from or out to bare Baileys."""
