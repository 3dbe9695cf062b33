"""Proof: runs the whole system against wasim with faults, from the outside, and counts what became of each message."""
