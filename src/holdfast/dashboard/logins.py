"""Sessions of signed-in users: the API key is entered once, then a signed cookie identifies the session. Keys are never
stored, shown or logged.

The cookie contains a keyed hash of the key, so removing a key ends its sessions. It also contains the times of the
sign-in and of the last use: an unused session expires after hours, and every session after days. The signing secret and
the sign-outs are stored in the database, so they survive restarts and are shared by all nodes.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

from holdfast.base.clock import Clock, iso
from holdfast.base.errors import Fault, HoldfastError
from holdfast.base.ids import RandomSource
from holdfast.base.limited_log import LimitedLog
from holdfast.dashboard.ports import CompanyGrant, KeyLookup, SignOuts

log = logging.getLogger(__name__)

COOKIE = "holdfast_session"
SECURE_COOKIE = "__Host-holdfast_session"
"""Name of the cookie over TLS. The `__Host-` prefix makes browsers accept it only over TLS and from this very host."""
IDLE_S = 12 * 3600
"""An unused session expires after this."""
LONGEST_S = 7 * 24 * 3600
"""Every session expires after this."""
RENEW_S = 300
"""A cookie older than this is renewed by the next page."""

_MAX_TRIES = 10
_TRIES_WITHIN_S = 60
_MAX_ADDRESSES = 1000


class TooManyAttempts(HoldfastError):
    """Too many wrong keys from one address."""

    code = "too-many-attempts"
    fault = Fault.CALLER


class WrongKey(HoldfastError):
    """The key is unknown."""

    code = "unauthorized"
    fault = Fault.CALLER


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A valid session."""

    id: str
    mark: str
    """Keyed hash of the API key."""
    grant: CompanyGrant
    signed_in_at: int
    """Unix seconds."""
    used_at: int
    """Unix seconds at which the cookie was issued."""


class Logins:
    def __init__(
        self, keys: KeyLookup, *, secret: bytes, sign_outs: SignOuts, clock: Clock, randomness: RandomSource
    ) -> None:
        self._keys = keys
        self._secret = secret
        self._sign_outs = sign_outs
        self._clock = clock
        self._randomness = randomness
        self._tries = Tries(clock)
        self._refusals = LimitedLog(log, monotonic=clock.monotonic)

    def sign_in(self, key: str, *, address: str) -> str:
        """Check an API key and return the value of a new cookie. Raises `WrongKey` and `TooManyAttempts`.

        A correct key always signs in, even after wrong ones from the same address: behind a proxy, users share one.
        """
        try:
            digest, _ = self._keys.entry(key.strip())
        except HoldfastError as error:
            self._refusals.warning("API key refused from %s: unknown key at the dashboard's sign-in", address)
            self._tries.check(address)
            self._tries.failed(address)
            raise WrongKey(
                "this API key is unknown: see HOLDFAST_API_KEY, or the file api-key in the data folder"
            ) from error
        now = self._now()
        return self._cookie(self._randomness.secret(), self._key_mark(digest), signed_in_at=now, used_at=now)

    async def read(self, cookie: str | None) -> Login | None:
        """The session that a cookie belongs to; None when the cookie is invalid or expired."""
        login = self._signed(cookie)
        return None if login is None or await self._sign_outs.has(login.id) else login

    def renewed(self, login: Login) -> str | None:
        """A new cookie when the present one is older than `RENEW_S`. It does not extend the longest duration."""
        now = self._now()
        if login.used_at >= now - RENEW_S:
            return None
        return self._cookie(login.id, login.mark, signed_in_at=login.signed_in_at, used_at=now)

    def seconds_left(self, cookie: str) -> int:
        """Lifetime of a cookie issued now."""
        signed_in_at = int(cookie.split(".")[2])
        return max(0, min(IDLE_S, signed_in_at + LONGEST_S - self._now()))

    async def sign_out(self, login: Login) -> None:
        ends = datetime.fromtimestamp(login.signed_in_at + LONGEST_S, UTC)
        await self._sign_outs.add(login.id, now=iso(self._clock.now()), forget_at=iso(ends))

    async def is_signed_in(self, login: Login) -> bool:
        """Whether the session is still valid. For streams, which outlive their request."""
        is_over = login.mark not in self._grants() or self._now() >= login.signed_in_at + LONGEST_S
        return not is_over and not await self._sign_outs.has(login.id)

    def form_token(self, login: Login) -> str:
        """The token against cross-site request forgery that every form of this session contains."""
        return self._sign("form", login.id)

    def is_form_token(self, login: Login, token: str) -> bool:
        return hmac.compare_digest(self.form_token(login).encode(), token.encode())

    def _signed(self, cookie: str | None) -> Login | None:
        """The session in a cookie whose signature is valid and which is not expired."""
        parts = (cookie or "").split(".")
        if len(parts) != 5:
            return None
        *fields, signature = parts
        if not hmac.compare_digest(signature.encode(), self._sign("login", *fields).encode()):
            return None
        login_id, mark, signed_in_at, used_at = fields
        grant = self._grants().get(mark)
        if grant is None:
            return None
        login = Login(id=login_id, mark=mark, grant=grant, signed_in_at=int(signed_in_at), used_at=int(used_at))
        return None if self._has_expired(login) else login

    def _has_expired(self, login: Login) -> bool:
        now = self._now()
        return login.used_at < now - IDLE_S or login.signed_in_at <= now - LONGEST_S

    def _cookie(self, login_id: str, mark: str, *, signed_in_at: int, used_at: int) -> str:
        fields = (login_id, mark, str(signed_in_at), str(used_at))
        return ".".join((*fields, self._sign("login", *fields)))

    def _grants(self) -> dict[str, CompanyGrant]:
        return {self._key_mark(digest): grant for digest, grant in self._keys.grants}

    def _key_mark(self, digest: bytes) -> str:
        return self._sign("key", digest.hex())

    def _sign(self, *words: str) -> str:
        return hmac.new(self._secret, ".".join(words).encode(), hashlib.sha256).hexdigest()

    def _now(self) -> int:
        return int(self._clock.now().timestamp())


class Tries:
    """Counts wrong keys by address for a minute, to limit the load and log lines of guessing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed: dict[str, deque[float]] = {}

    def check(self, address: str) -> None:
        """Raise `TooManyAttempts` when the address is over the limit."""
        now = self._clock.monotonic()
        tries = self._failed.get(address, deque())
        while tries and tries[0] <= now - _TRIES_WITHIN_S:
            tries.popleft()
        if len(tries) >= _MAX_TRIES:
            wait_s = int(tries[0] + _TRIES_WITHIN_S - now) + 1
            raise TooManyAttempts(f"{len(tries)} wrong keys came from your address within a minute: wait {wait_s} s")

    def failed(self, address: str) -> None:
        tries = self._failed.pop(address, deque(maxlen=_MAX_TRIES))
        tries.append(self._clock.monotonic())
        self._failed[address] = tries
        if len(self._failed) > _MAX_ADDRESSES:
            del self._failed[next(iter(self._failed))]
