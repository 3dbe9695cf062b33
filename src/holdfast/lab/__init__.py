"""Runs the whole system against wasim, injects faults from the outside, and counts the fate of each message."""
