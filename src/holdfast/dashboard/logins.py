"""Who is signed in: an API key once, then a signed cookie. A key is never kept, shown or logged.

The cookie names the key by a keyed hash, so a key that is removed ends its sessions. It also names the time of the
sign-in and of the last use: a session that is not used ends after hours, and every session after days. The signing
secret and the sign-outs are in the database: they outlive a restart, and all processes share them.
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
"""Over TLS: browsers take a cookie of this name only from the host itself, for all of it, and over TLS."""
IDLE_S = 12 * 3600
"""An unused session ends after this."""
LONGEST_S = 7 * 24 * 3600
"""Any session ends after this."""
RENEW_S = 300
"""A cookie older than this is replaced by a fresh one at the next page."""

_MOST_TRIES = 10
_TRIES_WITHIN_S = 60
_MOST_ADDRESSES = 1000


class TooManyTries(HoldfastError):
    """This address gave too many wrong keys."""

    code = "too-many-tries"
    fault = Fault.CALLER


class WrongKey(HoldfastError):
    """No such key."""

    code = "unauthorized"
    fault = Fault.CALLER


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Somebody who is signed in."""

    id: str
    mark: str
    """Of the key."""
    grant: CompanyGrant
    signed_in_at: int
    """Seconds of the epoch."""
    used_at: int
    """Seconds of the epoch, of the cookie."""


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
        """The value of a fresh cookie. Raises `WrongKey` and `TooManyTries`.

        A right key signs in whatever came from the address before: behind a proxy many people share one.
        """
        try:
            digest, _ = self._keys.entry(key.strip())
        except HoldfastError as error:
            self._refusals.warning("API key refused from %s: unknown key at the dashboard's sign-in", address)
            self._tries.check(address)
            self._tries.failed(address)
            raise WrongKey("this is no API key of this Holdfast: see HOLDFAST_API_KEY, or the file api-key") from error
        now = self._now()
        return self._cookie(self._randomness.secret(), self._mark(digest), signed_in_at=now, used_at=now)

    async def read(self, cookie: str | None) -> Login | None:
        """Who sent this cookie; None when nobody is signed in by it."""
        login = self._signed(cookie)
        return None if login is None or await self._sign_outs.has(login.id) else login

    def renewed(self, login: Login) -> str | None:
        """A fresh cookie for one that is no longer fresh. It ends no later than the first."""
        now = self._now()
        if login.used_at >= now - RENEW_S:
            return None
        return self._cookie(login.id, login.mark, signed_in_at=login.signed_in_at, used_at=now)

    def seconds_left(self, cookie: str) -> int:
        """How long a browser may keep a cookie that was made now."""
        signed_in_at = int(cookie.split(".")[2])
        return max(0, min(IDLE_S, signed_in_at + LONGEST_S - self._now()))

    async def sign_out(self, login: Login) -> None:
        ends = datetime.fromtimestamp(login.signed_in_at + LONGEST_S, UTC)
        await self._sign_outs.add(login.id, now=iso(self._clock.now()), forget_at=iso(ends))

    async def is_signed_in(self, login: Login) -> bool:
        """Is the session still open? For what outlives a request."""
        return self._now() < login.signed_in_at + LONGEST_S and not await self._sign_outs.has(login.id)

    def form_token(self, login: Login) -> str:
        """What every form of this session carries, and no other site can know."""
        return self._sign("form", login.id)

    def is_form_token(self, login: Login, token: str) -> bool:
        return hmac.compare_digest(self.form_token(login).encode(), token.encode())

    def _signed(self, cookie: str | None) -> Login | None:
        """What a cookie says, if it is ours and not over."""
        parts = (cookie or "").split(".")
        if len(parts) != 5:
            return None
        *said, signature = parts
        if not hmac.compare_digest(signature.encode(), self._sign("login", *said).encode()):
            return None
        login_id, mark, signed_in_at, used_at = said
        grant = self._grants().get(mark)
        if grant is None:
            return None
        login = Login(id=login_id, mark=mark, grant=grant, signed_in_at=int(signed_in_at), used_at=int(used_at))
        return None if self._is_over(login) else login

    def _is_over(self, login: Login) -> bool:
        now = self._now()
        return login.used_at < now - IDLE_S or login.signed_in_at <= now - LONGEST_S

    def _cookie(self, login_id: str, mark: str, *, signed_in_at: int, used_at: int) -> str:
        said = (login_id, mark, str(signed_in_at), str(used_at))
        return ".".join((*said, self._sign("login", *said)))

    def _grants(self) -> dict[str, CompanyGrant]:
        return {self._mark(digest): grant for digest, grant in self._keys.grants}

    def _mark(self, digest: bytes) -> str:
        return self._sign("key", digest.hex())

    def _sign(self, *words: str) -> str:
        return hmac.new(self._secret, ".".join(words).encode(), hashlib.sha256).hexdigest()

    def _now(self) -> int:
        return int(self._clock.now().timestamp())


class Tries:
    """Wrong keys by address, forgotten after a minute. Guessing is hopeless; this keeps it quiet as well."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed: dict[str, deque[float]] = {}

    def check(self, address: str) -> None:
        """Raises `TooManyTries`."""
        now = self._clock.monotonic()
        tries = self._failed.get(address, deque())
        while tries and tries[0] <= now - _TRIES_WITHIN_S:
            tries.popleft()
        if len(tries) >= _MOST_TRIES:
            wait_s = int(tries[0] + _TRIES_WITHIN_S - now) + 1
            raise TooManyTries(f"{len(tries)} wrong keys came from your address within a minute: wait {wait_s} s")

    def failed(self, address: str) -> None:
        tries = self._failed.pop(address, deque(maxlen=_MOST_TRIES))
        tries.append(self._clock.monotonic())
        self._failed[address] = tries
        if len(self._failed) > _MOST_ADDRESSES:
            del self._failed[next(iter(self._failed))]
