"""Reads linked devices out of the stores of other programs. It only reads: no source is ever changed."""
