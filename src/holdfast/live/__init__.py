"""Live state: the current state of each session, in Redis and in memory. It contains nothing that can't be rebuilt."""
