"""WhatsApp's wire format: bytes in, values out, and back. Pure code, without event loop, sockets, clock or
randomness."""
