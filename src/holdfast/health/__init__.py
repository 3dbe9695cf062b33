"""The evidence about each session, what it means, what to do and whom to tell: decided without loop, clock or disk."""
