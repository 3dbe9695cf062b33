"""What every package may use: clock, ids, the base class of errors."""
