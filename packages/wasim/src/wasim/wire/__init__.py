"""WhatsApp's wire format: bytes in, values out, and back. No loop, socket, clock or chance of its own."""
