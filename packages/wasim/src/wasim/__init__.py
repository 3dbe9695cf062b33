"""wasim: a simulated WhatsApp for unmodified clients. It depends on no client and treats all clients alike."""
