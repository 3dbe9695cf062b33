"""One session's life, decided without loop, clock, chance or socket: states, events, effects, reasons, backoff."""
