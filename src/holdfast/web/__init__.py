"""HTTP requests to URLs that users gave: media to fetch, and webhooks. Prevents server-side request forgery.

It must never connect to a private address that the operator did not allow, whatever a name resolves to.
"""
