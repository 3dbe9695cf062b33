"""wasim: a simulated WhatsApp for unmodified clients. It knows nothing of holdfast, nor who its client is."""
