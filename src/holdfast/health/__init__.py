"""Pure: the evidence about each session, what it means, what to do about it and whom to tell. No loop, clock or disk."""
