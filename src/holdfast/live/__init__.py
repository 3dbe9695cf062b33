"""Live state: what each session is doing now, in Redis with memory beside it. Nothing in it that can't be rebuilt."""
