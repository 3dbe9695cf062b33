"""Talks to addresses that people gave – media to fetch, webhooks – without lending them this machine's place inside.

It must never connect to a private address that the operator did not allow, whatever a name resolves to at the time.
"""
