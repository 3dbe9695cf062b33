"""Reads linked devices from the stores of other programs. It never changes a source."""
