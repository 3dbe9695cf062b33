"""Test doubles: they fulfil the contracts of the real parts, and tests/contract tests both."""
