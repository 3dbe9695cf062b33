"""Carries out what the pure rooms decide: engine hosts, session actors, the outbox sender. It owns every task."""
