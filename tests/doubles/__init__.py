"""Test doubles: they keep the promises of the real parts, and tests/contract holds both to them."""
