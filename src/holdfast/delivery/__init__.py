"""One message's life, decided without loop, clock, chance or disk: states, retries, order within a chat."""
