"""Carries out the decisions of the pure packages: engine hosts, session actors, outbox sender. Owns every task."""
