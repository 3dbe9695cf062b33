"""WhatsApp's server as pure code: bytes, keys and time in; bytes, events and the next deadline out."""
