"""What every room may use: clock, ids, the root of errors."""
