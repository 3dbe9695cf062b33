"""The life of one session as pure code, without event loop, clock, randomness or I/O: states, events, effects,
reasons and backoff."""
