"""Judges sessions by evidence, and decides actions and alerts. Pure: no event loop, no clock, no I/O."""
