"""Signed URLs of inbound media: each is valid for some days, for one medium, without an API key.

A URL shows when it was created, to the second: its expiry minus its lifetime. Revocation compares that with a stored
time, so it needs no list of URLs and holds in every process of a cluster.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import datetime, timedelta

VALID = timedelta(days=7)
"""Lifetime of a URL: a webhook receiver may be down for this long, and WhatsApp still has the medium."""
_TOKEN_BYTES = 18


class MediaLinks:
    """Makes and verifies signed URLs."""

    def __init__(self, *, secret: str, base_url: str) -> None:
        self._secret = secret.encode()
        self._base_url = base_url.rstrip("/")
        self._revoked_s = 0

    def url(self, inbox_id: str, *, now: datetime) -> str:
        made_s = max(int(now.timestamp()), self._revoked_s + 1)
        expires = made_s + int(VALID.total_seconds())
        return f"{self._base_url}/v1/media/{inbox_id}?expires={expires}&token={self._token(inbox_id, expires)}"

    def is_good(self, inbox_id: str, *, expires: int, token: str, now: datetime) -> bool:
        """Whether the token is valid and has not expired. Tokens are compared in constant time."""
        expected = self._token(inbox_id, expires)
        return hmac.compare_digest(expected.encode(), token.encode()) and now.timestamp() <= expires

    def revoke(self, *, now: datetime) -> None:
        """The caller stores `now` as the time of a revocation.

        URLs that this process makes later in the same second stay valid; those that another process makes in that
        second are revoked, too.
        """
        self._revoked_s = int(now.timestamp())

    def is_revoked(self, *, expires: int, revoked_at: datetime | None) -> bool:
        """Whether a URL was made before its company's URLs were revoked."""
        return revoked_at is not None and expires - int(VALID.total_seconds()) <= int(revoked_at.timestamp())

    def _token(self, inbox_id: str, expires: int) -> str:
        digest = hmac.digest(self._secret, f"media {inbox_id} {expires}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest[:_TOKEN_BYTES]).decode()
