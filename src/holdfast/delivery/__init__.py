"""The life of one message as pure code, without event loop, clock, randomness or I/O: states, retries, order in a
chat."""
